"""The fit section of a scene as quantities, stages and starts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import FitError
from physim.fit.block import RIDGE, Block
from physim.fit.derivatives import MOST_WEIGHTS
from physim.fit.space import Prior, Quantity, Space, Transform
from physim.fit.stage import EarlyStop, Method, Stage
from physim.fit.video_stages import video_stages
from physim.laws.neural.flat import flat_weights
from physim.laws.neural.span import span_weights
from physim.laws.tables import incompressible_strain
from physim.scene.loader import Scene
from physim.scene.networks import NetworkSpec
from physim.scene.parameters import FreeNumber, free_network, free_number
from physim.scene.spec_fit import FitPart, ParameterPart, StagePart
from physim.scene.units import ANGLE, TIME

SI_NAMES = {ANGLE.name: "rad"}
"""Dimensions whose values are kept in another unit than the one shown in files."""

ITERATIONS = 25
"""Iterations of a stage of named quantities, unless given."""
TRAINING = {Method.GAUSS_NEWTON: 100, Method.ADAM: 300, Method.LBFGS: 100}
"""Those of a stage with weights."""
AVERAGE = 0.9
"""Share of the running mean of Adam's points that is kept in each step where weights are freed."""
TABLE_NOISE = 0.01
"""Share of a stress that counts as one standard deviation where stress-stretch tables are weighed against a prior."""


def fit_part(scene: Scene) -> FitPart:
    """The fit section.

    Raises:
        FitError: the scene has none.
    """
    if scene.spec.fit is None:
        raise FitError(f"{scene.name} has no `fit` section; name at least one parameter under fit.parameters.")
    return scene.spec.fit


def make_space(scene: Scene) -> Space:
    """The fitted quantities with their bounds, transforms, starts and priors, and the blocks of weights."""
    found, blocks = [], []
    for name, part in fit_part(scene).parameters.items():
        network = free_network(scene.materials, name)
        if network is not None:
            blocks.append(_block(scene, name, network, part))
            continue
        number = free_number(scene.spec, scene.materials, name)
        found.append(_quantity(scene, number, part))
    return Space(tuple(found), tuple(blocks))


def make_stages(scene: Scene) -> tuple[Stage, ...]:
    """The stages; unless the scene names some, those of `video_stages` for pictures, or one with all parameters and
    the whole record.

    Raises:
        FitError: a stage would simulate changes of too many weights one by one.
    """
    part = fit_part(scene)
    stages, given_stop = [], part.early_stop
    early = None
    if given_stop is not None:
        early = EarlyStop(given_stop.begin, given_stop.recordings, given_stop.every, given_stop.patience)
    for i, given in enumerate(part.stages or _usual(scene)):
        name = given.name or f"stage {i + 1}"
        method = _method(scene, name, given)
        training = bool(_weights(scene, given))
        options: dict[str, Any] = {
            "name": name,
            "method": method,
            "parameters": given.parameters,
            "recordings": given.recordings,
            "begin": given.begin,
            "end": given.end,
            "iterations": given.iterations or part.iterations or (TRAINING[method] if training else ITERATIONS),
            "rate": given.rate or part.rate,
            "overrides": tuple(f"{key}={value}" for key, value in given.set.items()),
            "average": _average(part, given, method, training),
            "early": early,
        }
        options |= {k: getattr(given, k) for k in ("tolerance", "difference") if getattr(given, k) is not None}
        stages.append(Stage(**options))
    return tuple(stages)


def _usual(scene: Scene) -> tuple[StagePart, ...]:
    """Stages of a scene that names none."""
    pictures = any(getattr(part, "video", None) is not None for part in scene.spec.observe.values())
    searched = _asked(scene, StagePart()) in (None, Method.GAUSS_NEWTON) and not _weights(scene, StagePart())
    return video_stages(scene) if pictures and searched else (StagePart(name="fit"),)


def advice(scene: Scene) -> list[str]:
    """What a stage costs that simulates a change of every weight, and what an early stop chooses, in sentences."""
    found = []
    if fit_part(scene).early_stop is not None:
        found.append("What `early_stop` looks at has chosen where the search ended: its scores are not predictions.")
    for i, given in enumerate(fit_part(scene).stages or (StagePart(name="fit"),)):
        count = _weights(scene, given)
        if count and scene.spec.solver != "none" and _asked(scene, given) is Method.GAUSS_NEWTON:
            found.append(
                f"Stage '{given.name or f'stage {i + 1}'}' differences {count} weights by simulation: "
                f"{_cost(scene, count)} runs for each Jacobian; `method: adam` needs one run and its adjoint per step."
            )
    return found


def _method(scene: Scene, name: str, given: StagePart) -> Method:
    """How a stage searches: weights of simulated scenes by gradients, everything else by Gauss-Newton."""
    count = _weights(scene, given)
    asked = _asked(scene, given)
    if asked is None:
        return Method.ADAM if count and scene.spec.solver != "none" else Method.GAUSS_NEWTON
    if asked is Method.GAUSS_NEWTON and count > MOST_WEIGHTS and scene.spec.solver != "none":
        raise FitError(
            f"stage '{name}': gauss_newton would simulate {_cost(scene, count)} runs for each Jacobian of {count} "
            f"weights (at most {MOST_WEIGHTS} are differenced); use `method: adam` or `lbfgs`, which have the adjoint, "
            "or name the stage's `parameters` without the weights."
        )
    return asked


def _average(part: FitPart, given: StagePart, method: Method, training: bool) -> float:
    """Share of the running mean of the points."""
    asked = part.average if given.average is None else given.average
    if asked is None or (given.average is None and method is not Method.ADAM):
        return AVERAGE if training and method is Method.ADAM else 0.0
    return asked


def _asked(scene: Scene, given: StagePart) -> Method | None:
    """The method that a scene names for a stage."""
    named = given.method or fit_part(scene).method
    return Method(named) if named else None


def _weights(scene: Scene, given: StagePart) -> int:
    """How many weights a stage frees."""
    names = given.parameters or tuple(fit_part(scene).parameters)
    networks = [free_network(scene.materials, n) for n in names]
    return sum(len(flat_weights(n.module)) for n in networks if n is not None)


def _cost(scene: Scene, count: int) -> int:
    """Runs of a Jacobian by differences of so many weights."""
    return 2 * count * max(1, sum(r.role == "fit" for r in scene.spec.recordings.values()))


def _block(scene: Scene, name: str, network: NetworkSpec, part: ParameterPart) -> Block:
    """Weights with their prior; those that the scene draws are scaled to the strains of the tables."""
    sd = RIDGE if part.prior is None else float(part.prior.sd)
    start, scale = _drawn(scene, name, network, network.seed or 0)
    if network.file is not None:
        start = flat_weights(network.module)
    return Block(name, start / scale, sd, _noise(scene), scale)


def _drawn(scene: Scene, name: str, network: NetworkSpec, seed: int) -> tuple[Tensor, Tensor]:
    """Weights drawn with a seed, for the strains of the tables if there are any, and sizes of changes, (w,) each."""
    module: Any = network.module
    made, strains = module.plan.make(seed), _strains(scene, name)
    scales = {} if strains is None else span_weights(made, strains)
    parts = [scales.get(key, torch.ones_like(weight)).reshape(-1) for key, weight in made.named_parameters()]
    return flat_weights(made), torch.cat(parts).detach()


def _strains(scene: Scene, name: str) -> Tensor | None:
    """Deformation gradients of the fitted tests of a material, (m, 3, 3), taken as incompressible; None without any."""
    _, material, *part = name.split(".")
    if len(part) > 1:
        return None
    found = []
    for test in scene.spec.tables.values():
        if test.material == material and test.role == "fit":
            table = scene.tables[test.data]
            stretch = torch.as_tensor(table.column(str(test.named(table.columns)[0])))
            found.append(incompressible_strain(test.test, stretch[torch.isfinite(stretch)]))
    return torch.cat(found) if found else None


def _noise(scene: Scene) -> float:
    """Residual that counts as one standard deviation: motion is in units of its noise, tables are in shares of the
    largest stress, of each, or in Pa.
    """
    if scene.spec.solver != "none":
        return 1.0
    bare = [t for t in scene.spec.tables.values() if t.scale == "none"]
    if not bare:
        return TABLE_NOISE
    columns = [scene.tables[t.data].column(str(t.named(scene.tables[t.data].columns)[1])) for t in bare]
    return TABLE_NOISE * max(float(np.nanmax(np.abs(c))) for c in columns)


def make_starts(scene: Scene, space: Space) -> list[Tensor]:
    """Raw starts: the positive quantities times each factor of `fit.starts`.

    Weights that the scene draws are drawn anew, with the next seed, for every start after the first.
    """
    starts = [space.factored(f) for f in fit_part(scene).starts]
    for i, raw in enumerate(starts[1:], start=1):
        for block in space.blocks:
            network = free_network(scene.materials, block.name)
            if network is not None and network.seed is not None:
                raw[space.rows(block.name)] = block.raw(_drawn(scene, block.name, network, network.seed + i)[0])
    return starts


def _quantity(scene: Scene, number: FreeNumber, part: ParameterPart) -> Quantity:
    lower, upper = part.bounds or (number.lower, number.upper)
    start = number.value if part.start is None else part.start
    transform = Transform(part.transform or number.transform)
    scale = 1.0
    if transform is Transform.LINEAR:
        scale = _scale(scene, number, start, part)
    unit = SI_NAMES.get(number.dimension.name, number.dimension.unit)
    bare = Quantity(number.name, unit, start, transform, lower, upper, scale)
    if part.prior is None:
        return bare
    value = part.prior.value
    if part.prior.factor is not None:
        if transform is not Transform.LOG:
            raise FitError(f"{number.name}: a prior `factor` is for positive quantities; give `sd` instead.")
        return replace(bare, prior=Prior(value, math.log(part.prior.factor)))
    return replace(bare, prior=Prior(value, part.prior.sd / _slope(bare, value)))


def _slope(q: Quantity, value: float) -> float:
    """d(value)/d(raw) at a value."""
    if q.transform is Transform.LOG:
        return value
    if q.transform is Transform.LOGIT:
        return (value - q.lower) * (q.upper - value) / (q.upper - q.lower)
    return q.scale


def _scale(scene: Scene, number: FreeNumber, start: float, part: ParameterPart) -> float:
    """Physical size of one raw unit of a quantity of either sign."""
    if part.prior is not None and part.prior.sd is not None:
        return float(part.prior.sd)
    if number.dimension == TIME and scene.spec.time is not None:
        return scene.spec.time.frame or scene.spec.time.duration / 100.0
    return abs(start) or abs(number.value) or 1.0
