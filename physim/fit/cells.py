"""A fit on another grid: how much of an interval belongs to the cells."""

from __future__ import annotations

from fractions import Fraction

from physim.errors import InputError, StabilityError
from physim.fit.problem import Problem
from physim.scene.loader import Scene
from physim.scene.units import LENGTH, written

CELLS = ("grid.dx",)
"""What stands for the cells among assumed numbers."""
QUANTILE = 1.6448536269514722
"""Of the normal distribution at 95 %: so many standard deviations reach to either end of a 90 % interval."""
RATIOS = (("5/4", "6/5", "4/3", "7/6", "8/7"), ("3/2", "7/5", "5/3", "2"), ("4/5", "5/6", "3/4", "6/7", "7/8"))
"""How many times larger the cells of other grids may be; the first of each group that the domain allows is taken."""


def cell_size(scene: Scene) -> float | None:
    """Size of the cells of a scene [m]; None for one without a grid."""
    return None if scene.spec.solver == "none" or scene.spec.grid is None else scene.spec.grid.dx


def doubt(dx: float) -> float:
    """Standard deviation for cells that are taken as known up to all of their size [m].

    What is left on vanishing cells is `dx` away. Errors of contact, of free surfaces and of bodies that yield are
    of first order, so that a 90 % interval of the cells' part alone reaches to the value extrapolated there.
    """
    return dx / QUANTILE


def other_grids(problem: Problem) -> list[tuple[Problem, float]]:
    """The same scenes on other grids, and by which part of their size the cells are larger.

    Two coarser grids and a finer one, which costs the most: about as much as two runs of the fit. How well the faces
    of a body lie to the grid is different on each, so that one alone may say too much or too little.
    """
    found = []
    for group in RATIOS:
        made = (_on(problem, Fraction(ratio)) for ratio in group)
        first = next((one for one in made if one is not None), None)
        if first is not None:
            found.append(first)
    return found


def _on(problem: Problem, ratio: Fraction) -> tuple[Problem, float] | None:
    """The same scenes on a grid whose cells are `ratio` times as large; None where it does not fit the domain, or the
    time step that the scene asks for.
    """

    def changed(scene: Scene) -> list[str]:
        dx = cell_size(scene)
        return [] if dx is None else [f"{CELLS[0]}={written(dx * float(ratio), LENGTH, digits=15)}"]

    try:
        return problem.moved(changed), float(ratio - 1)
    except (InputError, StabilityError):
        return None
