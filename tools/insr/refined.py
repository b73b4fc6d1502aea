"""Finite elements on grids of half the spacing each, and what they tend to."""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import Tensor

from tools.insr.elements import Elements


@dataclass(frozen=True)
class Reference:
    """What elements say.

    Attributes:
        rows: for a table: cells, unknowns, energy, displacement off the extrapolated one, CPU seconds.
        energy: extrapolated [J/m].
        places: nodes of the coarsest grid, (n, 2).
        u: extrapolated displacements there [m], (n, 2).
        finest: grid and displacements of the finest.
        curve: unknowns of each grid, and how far its displacements are off.
    """

    rows: list[list[str]]
    energy: float
    places: Tensor
    u: Tensor
    finest: tuple[Elements, Tensor]
    curve: list[tuple[int, float]]


def rms(u: Tensor) -> float:
    """Root mean square of vectors."""
    return float(u.square().sum(dim=-1).mean().sqrt())


def reference(first: Elements, u: Tensor, grids: int, *, soften: bool = False) -> Reference:
    """Grids of half the spacing each, and what they tend to by the ratio of their last two changes."""
    grid, energies, found, costs, cells = first, [], [], [], []
    for k in range(grids):
        began = time.process_time()
        # Softer bodies on the way help as long as the start is far off.
        u = grid.reach(u) if soften and k < 3 else grid.solve(u)
        costs.append(time.process_time() - began)
        energies.append(grid.energy(u))
        cells.append((grid.cells, int((~grid.fixed).sum())))
        seen = u.reshape(grid.cells[0] + 1, grid.cells[1] + 1, 2)[:: 2**k, :: 2**k].reshape(-1, 2)
        found.append(seen)
        last = grid, u
        if k < grids - 1:
            grid, u = grid.finer(u)
    fall = max(1.5, (energies[-3] - energies[-2]) / (energies[-2] - energies[-1]))
    energy = energies[-1] - (energies[-2] - energies[-1]) / (fall - 1.0)
    fall = max(1.5, rms(found[-2] - found[-3]) / rms(found[-1] - found[-2]))
    best = found[-1] + (found[-1] - found[-2]) / (fall - 1.0)
    rows, curve = [], []
    for (shape, count), e, seen, cpu in zip(cells, energies, found, costs, strict=True):
        curve.append((count, rms(seen - best) / rms(best)))
        off = [f"{e / energy - 1.0:+.1e}", f"{curve[-1][1]:.1e}"]
        rows.append([f"{shape[0]} x {shape[1]} cells", str(count), f"{e:.6g}", *off, f"{cpu:.1f}", ""])
    rows.append(["extrapolated", "", f"{energy:.6g}", "", "", "", ""])
    return Reference(rows, energy, first.X, best, last, curve)
