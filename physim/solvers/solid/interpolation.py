"""Linear maps between nodal coefficients and material points, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor

from physim.errors import InputError
from physim.solvers.solid.boundary import Conditions
from physim.solvers.solid.stencil import Stencil, axis_weights

# The projection's residual, relative; its matrix is a mass matrix, so tens of iterations reach it.
_RESIDUAL = 1e-13
_ITERATIONS = 2000


def value_matrix(stencil: Stencil, points: np.ndarray) -> sparse.csr_matrix:
    """Matrix from nodal coefficients to values at reference points [m], (n, m)."""
    element, weights = stencil.locate(points)
    return _sparse(stencil.matrix(weights), stencil.node_table()[element], len(stencil.nodes))


def particle_matrix(stencil: Stencil, X: np.ndarray) -> sparse.csr_matrix:
    """From nodal coefficients to values, and derivatives [1/m] along x, y, z, at the particles, (4 n, m)."""
    element = stencil.element[_place(stencil)]
    s = (X - np.asarray(stencil.grid.origin)) / stencil.grid.dx - stencil.cells[element]
    return _values_and_slopes(stencil, axis_weights(s, stencil.grid, stencil.axes), element)


def quadrature_matrix(stencil: Stencil) -> sparse.csr_matrix:
    """`particle_matrix` at the places where the particles are integrated."""
    place = _place(stencil)
    return _values_and_slopes(stencil, stencil.weights[place], stencil.element[place])


def _place(stencil: Stencil) -> np.ndarray:
    """The sorted place of each particle."""
    place = np.empty(len(stencil.order), np.int64)
    place[stencil.order] = np.arange(len(place))
    return place


def _values_and_slopes(stencil: Stencil, weights: np.ndarray, element: np.ndarray) -> sparse.csr_matrix:
    nodes, count = stencil.node_table()[element], len(stencil.nodes)
    blocks = [_sparse(stencil.matrix(weights), nodes, count)]
    blocks += [_sparse(stencil.matrix(weights, axis), nodes, count) for axis in range(stencil.grid.dim)]
    if stencil.grid.dim == 2:
        blocks.append(sparse.csr_matrix((len(weights), count)))
    return sparse.csr_matrix(sparse.vstack(blocks))


def lumped_mass(stencil: Stencil, mass: np.ndarray) -> np.ndarray:
    """Nodal masses [kg] of the sorted particles, with the weights at their quadrature places, (m,)."""
    N = stencil.matrix(stencil.weights)
    nodes = stencil.node_table()[stencil.element]
    return np.bincount(nodes.ravel(), weights=(N * mass[:, None]).ravel(), minlength=len(stencil.nodes))


def to_torch(matrix: sparse.csr_matrix, like: Tensor) -> Tensor:
    """A sparse matrix as a torch tensor of the dtype and device of `like`."""
    coo = matrix.tocoo()
    index = torch.as_tensor(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.as_tensor(coo.data)
    made = torch.sparse_coo_tensor(index, values, matrix.shape, check_invariants=False)
    return made.to(dtype=like.dtype, device=like.device).coalesce()


def _sparse(data: np.ndarray, nodes: np.ndarray, count: int) -> sparse.csr_matrix:
    rows = np.repeat(np.arange(len(data)), data.shape[1])
    return sparse.csr_matrix((data.ravel(), (rows, nodes.ravel())), shape=(len(data), count))


class Projection:
    """Mass-weighted least-squares fit of nodal coefficients to values at the particles, under the conditions.

    Affine fields that obey the conditions are reproduced.
    """

    def __init__(self, values: sparse.csr_matrix, mass: np.ndarray, conditions: Conditions) -> None:
        m = len(conditions.leader)
        self._maps, self._normal, self._load = [], [], []
        for axis in range(3):
            T = sparse.csr_matrix((conditions.sign[:, axis], (np.arange(m), conditions.leader)), shape=(m, m))
            N = values @ T
            load = (N.T @ sparse.diags(mass)).tocsr()
            self._maps.append(T)
            self._load.append(load)
            self._normal.append((load @ N).tocsr())

    def __call__(self, v: Tensor) -> Tensor:
        """Coefficients (m, 3) that fit `v` (n, 3)."""
        return _Project.apply(self, v)  # type: ignore[return-value]

    def apply(self, v: np.ndarray) -> np.ndarray:
        """The map on arrays."""
        return np.stack([T @ self._solve(a, L @ v[:, a]) for a, T, L in self._parts()], axis=1)

    def transpose(self, g: np.ndarray) -> np.ndarray:
        """The transposed map on arrays."""
        return np.stack([L.T @ self._solve(a, T.T @ g[:, a]) for a, T, L in self._parts()], axis=1)

    def _parts(self) -> list[tuple[int, Any, Any]]:
        return [(a, self._maps[a], self._load[a]) for a in range(3)]

    def _solve(self, axis: int, b: np.ndarray) -> np.ndarray:
        A = self._normal[axis]
        # Row sums are the lumped mass; the consistent matrix scaled by them is well conditioned even in cut cells.
        size = np.asarray(abs(A).sum(axis=1)).ravel()
        scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        if not b.any():
            return np.zeros_like(b)
        x, info = cg(A, b, rtol=_RESIDUAL, maxiter=_ITERATIONS, M=sparse.diags(scale))
        if info < 0:
            raise InputError("the initial velocity could not be projected onto the grid.")
        return x


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projection: Projection, v: Tensor) -> Tensor:
        ctx.projection = projection
        return torch.as_tensor(projection.apply(v.detach().cpu().double().numpy())).to(v)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        return None, torch.as_tensor(ctx.projection.transpose(g.detach().cpu().double().numpy())).to(g)
