"""Numbers of a scene that a fit takes as known up to a standard deviation, and what they do to its residuals."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError, SimulationError
from physim.fit.problem import Problem
from physim.fit.settings import SI_NAMES, fit_part
from physim.fit.space import Space
from physim.fit.spread import caught, parallel
from physim.observe.record import Comparison
from physim.parallel import ALONE, Ranks
from physim.scene.loader import Scene
from physim.scene.overrides import find
from physim.scene.units import NUMBER, Dimension, UnitError, column_unit, parse, written


@dataclass(frozen=True)
class Assumption:
    """Numbers that are off together.

    Attributes:
        name: what they are.
        sd: standard deviation [SI].
        dimension: what they measure.
        numbers: their paths in the scene.
    """

    name: str
    sd: float
    dimension: Dimension
    numbers: tuple[str, ...]

    @property
    def unit(self) -> str:
        """SI unit of `sd`."""
        return SI_NAMES.get(self.dimension.name, self.dimension.unit)

    def moved(self, scene: Scene, by: float) -> list[str]:
        """Overrides that move every number which `scene` has by `by` standard deviations.

        Raises:
            UnitError: a number measures something else.
        """
        found = []
        for path in self.numbers:
            given = _entry(scene, path)
            if given is not None and not isinstance(given, InputError):
                value = parse(given, self.dimension) + by * self.sd
                found.append(f"{path}={written(value, self.dimension, digits=15)}")
        return found


def make_assumptions(scene: Scene, space: Space) -> tuple[Assumption, ...]:
    """The assumptions of the fit section.

    Raises:
        SceneError: a path that names no number in any recording, one of another kind, or a fitted one.
    """
    recordings = [scene.changed(recording=n) for n in scene.spec.recordings] or [scene]
    found = []
    for name, part in fit_part(scene).assumed.items():
        dimension = column_unit(part.sd)[1] if isinstance(part.sd, str) else NUMBER
        assumption = Assumption(name, parse(part.sd, dimension), dimension, part.numbers or (name,))
        place = ("fit", "assumed", name)
        for path in assumption.numbers:
            if path in space.names:
                raise scene.error(place, f"'{path}' is fitted; what is fitted is not assumed")
            entries = [_entry(one, path) for one in recordings]
            told = next((str(e) for e in entries if isinstance(e, InputError)), f"the scene does not state '{path}'")
            if all(e is None or isinstance(e, InputError) for e in entries):
                raise scene.error(place, told)
        try:
            for one in recordings:
                assumption.moved(one, 1.0)
        except UnitError as error:
            raise scene.error(place, str(error)) from None
        found.append(assumption)
    return tuple(found)


def both_sides(problem: Problem, assumptions: Sequence[Assumption]) -> list[tuple[Problem, Problem]]:
    """The problem with each assumed number one standard deviation above and below.

    Raises:
        InputError: a scene that cannot be built there.
    """

    def side(assumption: Assumption, by: float) -> Problem:
        try:
            return problem.moved(lambda scene: assumption.moved(scene, by))
        except InputError as error:
            raise InputError(
                f"fit.assumed.{assumption.name}: the scene cannot be built one standard deviation "
                f"{'above' if by > 0 else 'below'}: {error}"
            ) from None

    return [(side(a, 1.0), side(a, -1.0)) for a in assumptions]


def sensitivities(
    sides: Sequence[tuple[Problem, Problem]],
    raw: Tensor,
    base: Sequence[Comparison],
    *,
    threads: int,
    ranks: Ranks = ALONE,
) -> list[Tensor]:
    """Change of the residuals per standard deviation of each assumed number, (m, k, q) for each of `base`.

    Args:
        sides: from `both_sides`.
        raw: fitted raw parameters, (p,).
        base: comparisons at `raw`, which stand in for a side that cannot be simulated.
        threads: runs evaluated at the same time by each rank.
        ranks: who shares the runs.

    Raises:
        SimulationError: neither side of an assumed number can be simulated.
    """
    tasks = [(problem, recording) for pair in sides for problem in pair for recording in problem.recordings]

    def run(task: tuple[Problem, str]) -> list[Comparison]:
        with torch.no_grad():
            return task[0].predict(task[1], raw)

    results = parallel(lambda t: caught(run, t), tasks, threads, ranks)
    columns: list[list[Tensor]] = [[] for _ in base]
    for pair in sides:
        ends: list[Sequence[Comparison]] = []
        failures: list[SimulationError] = []
        for problem in pair:
            mine, results = results[: len(problem.recordings)], results[len(problem.recordings) :]
            wrong = [m for m in mine if isinstance(m, SimulationError)]
            failures += wrong[:1]
            ends.append(base if wrong else [c for m in mine if not isinstance(m, SimulationError) for c in m])
        if len(failures) == 2:
            raise failures[0]
        for column, above, below in zip(columns, *ends, strict=True):
            column.append((above.residuals() - below.residuals()) / (2.0 - len(failures)))
    return [torch.stack(c, dim=-1) for c in columns]


def _entry(scene: Scene, path: str) -> object | InputError | None:
    """The entry at a path as written; None if the scene leaves it out, the error if it cannot have it."""
    document = copy.deepcopy(scene.document)
    try:
        return document.at(find(document, path, scene.where(("fit", "assumed"))))
    except InputError as error:
        return error
