"""The scene's tested number at the fitted values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.problem import Problem
from physim.fit.rig import Rig
from physim.fit.scene_problem import SceneProblem
from physim.fit.scores import Score
from physim.fit.uncertainty import Uncertainty
from physim.observe.gauge import Gauge
from physim.scene.build_observe import gauge_reader, make_gauges
from physim.scene.built import Built
from physim.scene.expectation import Verdict, verdict
from physim.scene.loader import Scene


def judge(
    scene: Scene, problem: Problem, raw: Tensor, uncertainty: Uncertainty, scores: Sequence[Score]
) -> Verdict | None:
    """The number that `expect` names: a fitted parameter, the R2 of a record, or an observation simulated anew.

    An observation is read as `physim run` reads it, from the scene without a recording's settings, with the fitted
    values. None where the scene expects nothing, or a parameter that is not fitted.
    """
    part = scene.spec.expect
    if part is None:
        return None
    if part.quantity == "observation":
        return _simulated(scene, problem, raw) if isinstance(problem, SceneProblem) else None
    if part.quantity == "parameter":
        found = [e for e in uncertainty.estimates if e.name == part.parameter]
        return Verdict(part.meaning, found[0].value, part.value, part.tolerance, found[0].unit) if found else None
    values = [s.r2 for s in scores if s.name == part.observe]
    return Verdict(part.meaning, values[0], part.value, part.tolerance, "") if values else None


def _simulated(scene: Scene, problem: SceneProblem, raw: Tensor) -> Verdict | None:
    part = scene.spec.expect
    assert part is not None and part.observe is not None
    name = part.observe
    times: list[float] = []
    rows: list[np.ndarray] = []
    gauges: dict[str, Gauge] = {}

    def keep(built: Built, state: Any) -> None:
        gauges[name] = gauges.get(name) or make_gauges(built)[name]
        times.append(float(built.solver.particles(state).t))
        rows.append(gauge_reader(built, gauges)(state).numpy())

    try:
        with torch.no_grad():
            Rig(scene, problem.space, "", device=problem.device).play(raw, keep)
    except SimulationError:
        # A number that cannot be simulated is not as expected.
        return Verdict(part.meaning, math.nan, part.value, part.tolerance, "")
    return verdict(scene, times, {name: np.stack(rows)}, {name: gauges[name].unit})
