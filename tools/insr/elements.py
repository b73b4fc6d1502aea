"""Bilinear finite elements for a body in a box, plane strain: what the weight-space solver's bodies are compared with.

The part of the energy with the law's second modulus (`lam`, of the volume) is integrated at the centre of each cell
and the rest at four Gauss points, which keeps nearly incompressible cells from locking. The law's energy, gravity, and
the penalty of obstacles are those of `Body`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from physim.solvers.insr.body import Body
from physim.solvers.insr.potential import root

Array = NDArray[np.float64]
ITERATIONS, HALVINGS, STILL = 200, 30, 1e-11
"""Newton steps, halvings of one, and the largest change of a displacement, over the size of the body, at which it ends.
"""
SOFTENED = (0.003, 0.03, 0.2)
"""Factors on the second modulus on the way to a nearly incompressible body."""
GAUSS = 0.5 / math.sqrt(3.0)


@dataclass(frozen=True)
class Elements:
    """A grid of equal cells.

    Attributes:
        body: see there; its law's parameters are (mu, lam).
        cells: along each axis.
        fixed: which displacements are given, (nodes, 2).
        softened: factor on the law's second modulus.
    """

    body: Body
    cells: tuple[int, int]
    fixed: Tensor
    softened: float = 1.0

    @staticmethod
    def clamped(
        body: Body, cells: tuple[int, int], sides: tuple[bool, bool], axes: tuple[int, ...] = (0, 1)
    ) -> Elements:
        """With the sides at the least and the greatest x held, or not, along some axes."""
        X = nodes(body, cells)
        low, high = body.box.lower[0], body.box.upper[0]
        held = (sides[0] & (X[:, 0] < low + 1e-12)) | (sides[1] & (X[:, 0] > high - 1e-12))
        return Elements(body, cells, held[:, None] & torch.tensor([k in axes for k in range(2)]))

    @cached_property
    def X(self) -> Tensor:
        """Nodes at rest, (n, 2)."""
        return nodes(self.body, self.cells)

    @cached_property
    def corners(self) -> Tensor:
        """Nodes of each cell: lower left, lower right, upper left, upper right, (cells, 4)."""
        nx, ny = self.cells
        at = torch.arange((nx + 1) * (ny + 1)).reshape(nx + 1, ny + 1)
        return torch.stack([at[:-1, :-1], at[1:, :-1], at[:-1, 1:], at[1:, 1:]], dim=-1).reshape(-1, 4)

    @cached_property
    def points(self) -> list[tuple[Tensor, float, Tensor]]:
        """Gradients of the four shapes (4, 2), area, and parameters with which the energy is taken, at each point."""
        size = torch.tensor(self.body.box.size, dtype=torch.float64) / torch.tensor(self.cells)
        area, found = float(size.prod()), []
        with torch.no_grad():
            theta = self.body.material.theta()
        first = torch.tensor([1.0, 0.0], dtype=torch.float64)
        places = [(0.5 + a, 0.5 + b, 0.25 * area, first) for a in (-GAUSS, GAUSS) for b in (-GAUSS, GAUSS)]
        for a, b, share, which in [*places, (0.5, 0.5, area, self.softened * (1.0 - first))]:
            slopes = torch.tensor([[b - 1.0, a - 1.0], [1.0 - b, -a], [-b, 1.0 - a], [b, a]], dtype=torch.float64)
            found.append((slopes / size, share, theta * which))
        return found

    @cached_property
    def load(self) -> Tensor:
        """Weight at each node [N/m], (n, 2)."""
        share = 0.25 * self.body.volume / len(self.corners) * self.body.material.rho0
        count = torch.bincount(self.corners.reshape(-1), minlength=len(self.X))
        return share * count[:, None] * self.body.gravity

    @cached_property
    def skin(self) -> tuple[Tensor, Tensor, Tensor]:
        """Points of the surface: the two nodes of their edge (s, 2), shares of these (s, 2), lengths (s,)."""
        nx, ny = self.cells
        at = torch.arange((nx + 1) * (ny + 1)).reshape(nx + 1, ny + 1)
        h = [s / c for s, c in zip(self.body.box.size, self.cells, strict=True)]
        sides = [(at[0], h[1]), (at[-1], h[1]), (at[:, 0], h[0]), (at[:, -1], h[0])]
        pairs, shares, lengths = [], [], []
        for line, length in sides:
            for s in (0.5 - GAUSS, 0.5 + GAUSS):
                pairs.append(torch.stack([line[:-1], line[1:]], dim=1))
                shares.append(torch.tensor([1.0 - s, s], dtype=torch.float64).expand(len(line) - 1, 2))
                lengths.append(torch.full((len(line) - 1,), 0.5 * length, dtype=torch.float64))
        return torch.cat(pairs), torch.cat(shares), torch.cat(lengths)

    def energy(self, u: Tensor) -> float:
        """Energy [J/m] at displacements (n, 2); infinite where a cell is inverted."""
        total = -float((self.load * u).sum())
        for slopes, area, theta in self.points:
            F = self._deformation(u, slopes)
            if not bool((torch.linalg.det(F) > 0).all()):
                return math.inf
            total += area * float(self.body.material.energy(F, theta).sum())
        if self.body.obstacles:
            _, gap, _ = self._touching(u)
            total += 0.5 * self._firm * float((self.skin[2][:, None] * gap.clamp(max=0.0).square()).sum())
        return total

    @property
    def _firm(self) -> float:
        return float(self.body.firm.detach())

    def pressed(self, u: Tensor) -> Tensor:
        """Force of all obstacles on the body [N/m], (2,)."""
        _, gap, normal = self._touching(u)
        return (self._firm * self.skin[2][:, None, None] * (-gap).clamp(min=0.0)[..., None] * normal).sum((0, 1))

    def reach(self, u: Tensor) -> Tensor:
        """As `solve`, by way of bodies that are easier to compress: a start far off has not the right volume."""
        for softened in SOFTENED:
            u = dataclasses.replace(self, softened=softened).solve(u)
        return self.solve(u)

    def solve(self, u: Tensor) -> Tensor:
        """Displacements of least energy, (n, 2), from others that have the given ones right.

        Raises:
            RuntimeError: Newton does not converge.
        """
        free = (~self.fixed).reshape(-1).nonzero()[:, 0].numpy()
        energy, size = self.energy(u), max(self.body.box.size)
        for _ in range(ITERATIONS):
            for convex in (False, True):
                force, matrix = self._tangent(u, convex)
                step = torch.zeros(u.numel(), dtype=torch.float64)
                step[free] = torch.from_numpy(-splu(matrix[free][:, free].tocsc()).solve(force[free]))
                step = step.reshape(-1, 2)
                if float(step.reshape(-1) @ torch.from_numpy(force)) > 0:
                    continue
                for _ in range(HALVINGS):
                    now = self.energy(u + step)
                    if now <= energy + 1e-13 * abs(energy):
                        break
                    step = 0.5 * step
                else:
                    continue
                break
            else:
                raise RuntimeError("finite elements: no way down.")
            u, energy = u + step, now
            if float(step.abs().max()) < STILL * size:
                return u
        raise RuntimeError("finite elements: Newton does not converge.")

    def finer(self, u: Tensor) -> tuple[Elements, Tensor]:
        """With half the spacing, sides held as here, and displacements between those of this grid."""
        grid = u.reshape(self.cells[0] + 1, self.cells[1] + 1, 2)
        for _ in range(2):
            more = torch.zeros(2 * len(grid) - 1, *grid.shape[1:], dtype=torch.float64)
            more[::2], more[1::2] = grid, 0.5 * (grid[1:] + grid[:-1])
            grid = more.transpose(0, 1)
        cells = (2 * self.cells[0], 2 * self.cells[1])
        old = self.fixed.reshape(self.cells[0] + 1, self.cells[1] + 1, 2)
        fixed = torch.zeros(grid.shape, dtype=torch.bool)
        fixed[0], fixed[-1] = old[0].all(dim=0), old[-1].all(dim=0)
        return Elements(self.body, cells, fixed.reshape(-1, 2)), grid.reshape(-1, 2)

    def _deformation(self, u: Tensor, slopes: Tensor) -> Tensor:
        grad = torch.einsum("cai,aj->cij", u[self.corners], slopes)
        return torch.nn.functional.pad(grad, (0, 1, 0, 1)) + torch.eye(3, dtype=torch.float64)

    def _touching(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the surface is (s, 2), its gaps (s, obstacles) and normals there (s, obstacles, 2)."""
        pairs, shares, _ = self.skin
        at = torch.einsum("sb,sbi->si", shares, (self.X + u)[pairs]).requires_grad_()
        gap = self.body.gaps(at, 0.0)
        normals = [torch.autograd.grad(g.sum(), at, retain_graph=True)[0] for g in gap.unbind(dim=1)]
        return at.detach(), gap.detach(), torch.stack(normals, dim=1)

    def _tangent(self, u: Tensor, convex: bool) -> tuple[Array, sparse.csr_matrix]:
        """Slope of the energy (2 n,) and its second derivative, made positive point by point with `convex`."""
        count = u.numel()
        places = (2 * self.corners[..., None] + torch.arange(2)).reshape(-1, 8)
        slope, blocks = -self.load.reshape(-1).clone(), torch.zeros(len(places), 8, 8, dtype=torch.float64)
        for slopes, area, theta in self.points:
            P, stiff = self._stress(self._deformation(u, slopes), theta)
            if convex:
                half = root(stiff)
                stiff = half.transpose(1, 2) @ half
            shape = torch.einsum("ik,aj->ijak", torch.eye(2, dtype=torch.float64), slopes).reshape(4, 8)
            slope.index_add_(0, places.reshape(-1), area * (P @ shape).reshape(-1))
            blocks += area * shape.T @ stiff @ shape
        data, row = [blocks.reshape(-1)], [places[:, :, None].expand(-1, 8, 8).reshape(-1)]
        column = [places[:, None, :].expand(-1, 8, 8).reshape(-1)]
        if self.body.obstacles:
            pairs, shares, lengths = self.skin
            _, gap, normal = self._touching(u)
            ends = (2 * pairs[..., None] + torch.arange(2)).reshape(-1, 4)
            for g, n in zip(gap.unbind(dim=1), normal.unbind(dim=1), strict=True):
                firm = self._firm * lengths * (g < 0)
                along = (shares[:, :, None] * n[:, None, :]).reshape(-1, 4)
                slope.index_add_(0, ends.reshape(-1), ((firm * g)[:, None] * along).reshape(-1))
                data.append((firm[:, None, None] * along[:, :, None] * along[:, None, :]).reshape(-1))
                row.append(ends[:, :, None].expand(-1, 4, 4).reshape(-1))
                column.append(ends[:, None, :].expand(-1, 4, 4).reshape(-1))
        at = (torch.cat(row).numpy(), torch.cat(column).numpy())
        return slope.numpy(), sparse.csr_matrix((torch.cat(data).numpy(), at), shape=(count, count))

    def _stress(self, F: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """P (c, 4) and dP/dF (c, 4, 4) by the energy's derivatives."""
        F = F.detach().requires_grad_()
        (P,) = torch.autograd.grad(self.body.material.energy(F, theta).sum(), F, create_graph=True)
        flat = P[:, :2, :2].flatten(1)
        columns = [torch.autograd.grad(flat[:, k].sum(), F, retain_graph=True)[0][:, :2, :2] for k in range(4)]
        return flat.detach(), torch.stack([c.flatten(1) for c in columns], dim=1)


def nodes(body: Body, cells: tuple[int, int]) -> Tensor:
    """Nodes of a grid over the body at rest, (n, 2), y fastest."""
    ends = zip(body.box.lower, body.box.upper, cells, strict=True)
    axes = [torch.linspace(low, high, n + 1, dtype=torch.float64) for low, high, n in ends]
    return torch.cartesian_prod(*axes)
