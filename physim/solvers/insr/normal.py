"""The Gauss-Newton matrix of a match: what a small change of the weights does, and which change does what is wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.linalg import blas, lapack
from torch import Tensor

from physim.solvers.insr.maps import Weights, rows

MANY = 3000
"""Weights beyond which the matrix is not formed."""
CHOSEN = 1200
"""Weights that move at a time where there are more than `MANY`."""
ACCURATE = 1e-8
"""Relative residual at which conjugate gradients stop."""


class Damped:
    """A^T A with damping, and its inverse.

    Formed and factorised (Cholesky) in the space of the weights where rows exceed them, in that of the rows where they
    are fewer, and never formed, but solved by conjugate gradients, beyond `MANY` of both.

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
        self._matrix = None
        self._factor, self._damping = None, -1.0
        if min(count, size) <= MANY:
            self._matrix = blas.dsyrk(1.0, rows.numpy().T, trans=int(self._by_rows), lower=1)

    def solve(self, right: Tensor, damping: float) -> Tensor:
        """(A^T A + damping scale)^-1 right, (p,)."""
        shift = damping * self.scale
        if self._matrix is None:
            return self._iterate(right, shift)
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

    def _iterate(self, right: Tensor, shift: float) -> Tensor:
        """Conjugate gradients with the diagonal as preconditioner."""
        diagonal = self.rows.square().sum(dim=0) + shift
        found, left = torch.zeros_like(right), right.clone()
        toward = direction = left / diagonal
        size, target = float(left @ toward), ACCURATE * float(right.norm())
        for _ in range(2 * right.shape[0]):
            if float(left.norm()) <= target:
                break
            image = self.rows.T @ (self.rows @ direction) + shift * direction
            step = size / float(direction @ image)
            found, left = found + step * direction, left - step * image
            toward = left / diagonal
            size, before = float(left @ toward), size
            direction = toward + size / before * direction
        return found


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
