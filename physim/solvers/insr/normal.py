"""The Gauss-Newton matrix of a match: what a small change of the weights does, and which change does what is wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.linalg import blas, lapack
from torch import Tensor

from physim.solvers.insr.maps import Weights, rows

MANY = 3000
"""Weights beyond which only some move at a time."""
CHOSEN = 1200
"""Weights that move at a time where there are more than `MANY`."""


class Damped:
    """A^T A with damping, and its inverse.

    Factorised (Cholesky) in the space of the weights where rows exceed them, in that of the rows where they are fewer.

    Args:
        rows: A, (r, p).

    Attributes:
        scale: mean of the diagonal of A^T A, the unit of damping.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.scale = float(rows.square().sum() / rows.shape[1])
        count, size = rows.shape
        self._by_rows = count < size
        self._factor, self._damping = None, -1.0
        self._matrix = blas.dsyrk(1.0, rows.numpy().T, trans=int(self._by_rows), lower=1)

    def solve(self, right: Tensor, damping: float) -> Tensor:
        """(A^T A + damping scale)^-1 right, (p,)."""
        shift = damping * self.scale
        if damping != self._damping:
            matrix = self._matrix.copy(order="F")
            matrix.T.flat[:: len(matrix) + 1] += shift
            self._factor, info = lapack.dpotrf(matrix, lower=1, overwrite_a=1)
            self._damping = damping if info == 0 else -1.0
            if info:
                # Rounding left nothing to stand on in some direction: only more damping helps.
                return self.solve(right, max(10.0 * damping, 1e-16))
        if not self._by_rows:
            return torch.from_numpy(lapack.dpotrs(self._factor, right.numpy(), lower=1)[0])
        # (A^T A + s)^-1 g = (g - A^T (A A^T + s)^-1 A g) / s
        inner = lapack.dpotrs(self._factor, (self.rows @ right).numpy(), lower=1)[0]
        return (right - self.rows.T @ torch.from_numpy(inner)) / shift


def chosen(weights: Tensor) -> Tensor | None:
    """Weights that are to move at a time, in order: a few at random of many, or None for all.

    Others each time, as follows from the weights themselves, so that a step is a function of its state (Berman and
    Peherstorfer, Randomized sparse neural Galerkin schemes, NeurIPS 2023).
    """
    if len(weights) <= MANY:
        return None
    generator = torch.Generator().manual_seed(hash(float(weights.sum())) % 2**31)
    return torch.randperm(len(weights), generator=generator)[:CHOSEN].sort().values


class Normal:
    """J^T W J of rows J, and its inverse with damping; of some of the weights, where the others are to stay.

    Args:
        function: from weights to values at points, (n, m).
        weights: where, (p,).
        weight: of the points, (n,).
        only: weights that move; all unless given.
    """

    def __init__(
        self, function: Callable[[Weights], Tensor], weights: Tensor, weight: Tensor, only: Tensor | None = None
    ) -> None:
        _, found = rows(weights, function, only)
        self.only, self._size = only, len(weights)
        self._outputs = found.shape[0]
        self._root = weight.sqrt().repeat(self._outputs)
        self._damped = Damped((found * weight.sqrt()[:, None]).flatten(0, 1))

    @property
    def scale(self) -> float:
        """Mean of the diagonal, the unit of damping."""
        return self._damped.scale

    def rows(self, output: int) -> Tensor:
        """What each weight does to one of the values, (n, p)."""
        count = len(self._root) // self._outputs
        here = slice(output * count, (output + 1) * count)
        return self._damped.rows[here] / self._root[here, None]

    def push(self, change: Tensor) -> Tensor:
        """What a change of the weights (p,) does: (n, m)."""
        moved = change if self.only is None else change[self.only]
        return ((self._damped.rows @ moved) / self._root).reshape(self._outputs, -1).T

    def pull(self, values: Tensor) -> Tensor:
        """J^T W of values (n, m): (p,), zero for weights that stay."""
        return self._spread(self._damped.rows.T @ (values.T.reshape(-1) * self._root))

    def solve(self, right: Tensor, damping: float) -> Tensor:
        """See `Damped`; (p,), zero for weights that stay."""
        return self._spread(self._damped.solve(right if self.only is None else right[self.only], damping))

    def _spread(self, some: Tensor) -> Tensor:
        return some if self.only is None else some.new_zeros(self._size).index_copy(0, self.only, some)
