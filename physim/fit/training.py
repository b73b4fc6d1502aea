"""What the data of a fit held for each law whose weights were fitted: strains, volumes, and the misfit left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.problem import Problem
from physim.fit.scene_problem import SceneProblem
from physim.fit.scores import Score
from physim.fit.table_problem import TableProblem
from physim.laws.reach import Reach, reach_of
from physim.scene.built import Built
from physim.scene.learned import LearnedSpec
from physim.scene.loader import Scene


def held_by_training(
    scene: Scene, problem: Problem, raw: Tensor, scores: Sequence[Score]
) -> tuple[dict[str, LearnedSpec], list[str]]:
    """The `learned` section of every material whose weights were fitted, and sentences about what could not be told.

    Strains are those of the fitted tests, or of every kept frame of the fitted recordings, simulated once more; of
    plastic solids the elastic ones.

    Args:
        scene: that was fitted.
        problem: of the last stage.
        raw: fitted raw parameters, (p,).
        scores: agreement with the data.
    """
    names = dict.fromkeys(b.name.split(".")[1] for b in problem.space.blocks)
    if not names:
        return {}, []
    misfit = _misfit(scores)
    found, notes = {}, []
    for name in names:
        try:
            seen = _seen(problem, raw, name)
        except SimulationError as error:
            notes.append(f"The strains that training held of {name} cannot be told: {error}")
            seen = None
        records = ", ".join(_records(scene, problem, name) or ["its records"])
        span = (None, None) if seen is None else (seen[0], (min(seen[1], 1.0), max(seen[2], 1.0)))
        found[name] = LearnedSpec(*span, misfit, f"physim fit {scene.file.name}, data: {records}")
    return found, notes


def strain_and_volume(F: Tensor) -> tuple[Tensor, Tensor]:
    """Norm of the Hencky strain |log(F F^T)/2| [-], (n,), and J [-], (n,), of deformation gradients (n, 3, 3)."""
    stretches = torch.linalg.svdvals(F.double())
    return torch.log(stretches.clamp_min(1e-300)).norm(dim=1), torch.linalg.det(F.double())


def visited(deformations: Iterable[Tensor]) -> Reach | None:
    """The strains of states that were learned from, given by their deformation gradients (n, 3, 3); None of none."""
    found = [strain_and_volume(F) for F in deformations]
    return reach_of(torch.cat([s for s, _ in found]), torch.cat([J for _, J in found])) if found else None


def _seen(problem: Problem, raw: Tensor, name: str) -> tuple[float, float, float] | None:
    """Largest strain, least and largest J of a material; None where nothing of it is fitted."""
    if isinstance(problem, TableProblem):
        parts = [problem.deformations(r, raw) for r in problem.recordings if problem.tests[r].part.material == name]
    elif isinstance(problem, SceneProblem):
        parts = _visited(problem, raw, name)
    else:
        return None
    ends = [(float(s.max()), float(J.min()), float(J.max())) for s, J in map(strain_and_volume, parts) if len(s)]
    if not ends:
        return None
    return max(e[0] for e in ends), min(e[1] for e in ends), max(e[2] for e in ends)


def _records(scene: Scene, problem: Problem, name: str) -> list[str]:
    """Names of the data that the weights were fitted to."""
    if isinstance(problem, TableProblem):
        tests = [problem.tests[r].part for r in problem.recordings]
        return [t.data for t in tests if t.material == name]
    return [*scene.spec.data]


def _visited(problem: SceneProblem, raw: Tensor, name: str) -> list[Tensor]:
    """Deformation gradients of a material's particles in every frame of the fitted recordings."""
    found: list[Tensor] = []

    def keep(built: Built, state: Any) -> None:
        F = built.solver.particles(state).F.detach().cpu()
        for body, made in zip(built.model.bodies, built.bodies, strict=True):
            if made.material == name:
                found.append(F[body.start : body.stop])

    with torch.no_grad():
        for recording in problem.recordings:
            problem.rig(recording).play(raw, keep)
    return found


def _misfit(scores: Sequence[Score]) -> float | None:
    """Root mean square error of the fitted records over their amplitudes."""
    shares = [s.relative for s in scores if s.role == "fitted" and math.isfinite(s.relative)]
    return math.sqrt(sum(r * r for r in shares) / len(shares)) if shares else None
