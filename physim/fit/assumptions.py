"""Numbers of a scene that a fit takes as known up to a standard deviation, and what they do to its residuals."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError, SimulationError, StabilityError
from physim.fit.cells import CELLS, cell_size, doubt, other_grids
from physim.fit.problem import Problem
from physim.fit.settings import SI_NAMES, fit_part
from physim.fit.space import Space
from physim.fit.spread import caught, parallel
from physim.observe.record import Comparison
from physim.parallel import ALONE, Ranks
from physim.scene.loader import Scene
from physim.scene.overrides import find
from physim.scene.units import LENGTH, NUMBER, Dimension, UnitError, column_unit, parse, written

PARTICLE = "particle"
"""In the names of columns that are of particles."""


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
    """The assumptions of the fit section, and the grid's where pictures are compared.

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
            if path in CELLS and cell_size(scene) is None:
                raise scene.error(place, "a scene that simulates nothing has no cells")
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
    return (*found, *_cells(scene, found))


def _cells(scene: Scene, others: Sequence[Assumption]) -> tuple[Assumption, ...]:
    """The grid, where pictures are compared and nothing else is said of it: their noise is finer than any grid."""
    dx = cell_size(scene)
    filmed = any(getattr(part, "video", None) is not None for part in scene.spec.observe.values())
    if dx is None or not filmed or any(set(CELLS) & set(a.numbers) for a in others):
        return ()
    return (Assumption(CELLS[0], doubt(dx), LENGTH, CELLS),)


@dataclass(frozen=True)
class Varied:
    """A problem with other values of an assumed number.

    Attributes:
        name: what is assumed.
        problems: with those values.
        apart: how much larger they are than the fitted problem's, in standard deviations.
        scatter: whether what does not follow a straight line counts too.
    """

    name: str
    problems: tuple[Problem, ...]
    apart: tuple[float, ...]
    scatter: bool = False


def vary(problem: Problem, assumptions: Sequence[Assumption], dx: float | None = None) -> list[Varied]:
    """The problem with each assumed number one standard deviation above and below, and on other grids.

    Args:
        problem: that is fitted last.
        assumptions: of the scene.
        dx: cells of the scene [m].

    Raises:
        InputError: a scene that cannot be built there.
    """

    def side(assumption: Assumption, by: float) -> Problem:
        try:
            return problem.moved(lambda scene: assumption.moved(scene, by))
        except (InputError, StabilityError) as error:
            raise InputError(
                f"fit.assumed.{assumption.name}: the scene cannot be built one standard deviation "
                f"{'above' if by > 0 else 'below'}: {error}"
            ) from None

    found = []
    for a in assumptions:
        if a.numbers == CELLS:
            others = other_grids(problem)
            larger = tuple(by * (dx or 0.0) / a.sd for _, by in others)
            found.append(Varied(a.name, tuple(p for p, _ in others), larger, scatter=True))
        else:
            found.append(Varied(a.name, (side(a, 1.0), side(a, -1.0)), (1.0, -1.0)))
    return found


@dataclass(frozen=True)
class Changes:
    """What assumed numbers do to the residuals.

    Attributes:
        columns: change per standard deviation of each assumed number, (m, k, q) for each comparison; after them,
            where other grids scatter, the change of each that no straight line tells.
        simulated: which of the assumed numbers they are of.
        notes: a sentence for each other one, and for each of which only some values could be simulated.
    """

    columns: list[Tensor]
    simulated: list[bool]
    notes: list[str]


def changes(
    varied: Sequence[Varied],
    raw: Tensor,
    base: Sequence[Comparison],
    *,
    threads: int,
    ranks: Ranks = ALONE,
) -> Changes:
    """Simulate the problems of `vary`; straight lines through the residuals at `raw`, fitted to theirs.

    Args:
        varied: from `vary`.
        raw: fitted raw parameters, (p,).
        base: comparisons at `raw`.
        threads: runs evaluated at the same time by each rank.
        ranks: who shares the runs.
    """
    tasks = [(problem, recording) for v in varied for problem in v.problems for recording in problem.recordings]

    def run(task: tuple[Problem, str]) -> list[Comparison]:
        with torch.no_grad():
            return task[0].predict(task[1], raw)

    results = iter(parallel(lambda t: caught(run, t), tasks, threads, ranks))
    slopes: list[list[Tensor]] = [[] for _ in base]
    scattered: list[list[Tensor]] = [[] for _ in base]
    simulated, notes = [], []
    for v in varied:
        apart, runs, failure = [], [], "no other grid fits the domain."
        for problem, by in zip(v.problems, v.apart, strict=True):
            mine = [next(results) for _ in problem.recordings]
            wrong = next((m for m in mine if isinstance(m, SimulationError)), None)
            if wrong is None:
                apart.append(by)
                runs.append([c for m in mine if not isinstance(m, SimulationError) for c in m])
            else:
                failure = str(wrong)
        simulated.append(bool(runs))
        if not runs:
            notes.append(f"The intervals leave out what is assumed of {v.name}, because it cannot be varied: {failure}")
            continue
        if len(runs) < len(v.problems):
            notes.append(
                f"Of {v.name}, assumed, {len(runs)} of {len(v.problems)} other values could be simulated: {failure}"
            )
        by = torch.tensor(apart, dtype=torch.float64)
        for i, here in enumerate(base):
            moved = torch.stack([_change(here, run[i]) for run in runs], dim=-1)
            slope = moved @ by / (by @ by)
            slopes[i].append(slope)
            if v.scatter and len(runs) > 1:
                scattered[i] += ((moved - slope[..., None] * by) / math.sqrt(len(runs) - 1)).unbind(-1)
    columns = [torch.stack([*a, *b], dim=-1) for a, b in zip(slopes, scattered, strict=True) if a]
    return Changes(columns, simulated, notes)


def _change(here: Comparison, other: Comparison) -> Tensor:
    """Change of the residuals [noise units of `here`], (m, k); 0 where `other` has no such column.

    On another grid other tracked points lie on the body, and particles are others altogether, whatever their number.
    """
    off = other.predicted - other.measured
    if other.columns != here.columns or any(PARTICLE in name for name in here.columns):
        places = {name: i for i, name in enumerate(other.columns) if PARTICLE not in name}
        rows = [places.get(name, -1) for name in here.columns]
        found = torch.tensor([row >= 0 for row in rows])
        off = torch.where(found, off[:, rows], here.predicted - here.measured)
    return (off - (here.predicted - here.measured)) / here.sigma


def _entry(scene: Scene, path: str) -> object | InputError | None:
    """The entry at a path as written; None if the scene leaves it out, the error if it cannot have it."""
    document = copy.deepcopy(scene.document)
    try:
        return document.at(find(document, path, scene.where(("fit", "assumed"))))
    except InputError as error:
        return error
