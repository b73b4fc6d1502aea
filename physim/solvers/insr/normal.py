"""The Gauss-Newton matrix of a match: what a small change of the weights does, and which change does what is wanted."""

from __future__ import annotations

import torch
from scipy.linalg import blas, lapack
from torch import Tensor

MANY = 3000
"""Weights beyond which the matrix is not formed."""
ACCURATE = 1e-8
"""Relative residual at which conjugate gradients stop."""


class Normal:
    """J^T W J of rows J, and its inverse with damping.

    Formed and factorised (Cholesky) in the space of the weights where rows exceed them, in that of the rows where they
    are fewer, and never formed, but solved by conjugate gradients, beyond `MANY` of both.

    Args:
        rows: (m, n, p), m values at n points by p weights.
        weight: of the points, (n,).
    """

    def __init__(self, rows: Tensor, weight: Tensor) -> None:
        self.rows = (rows * weight.sqrt()[:, None]).flatten(0, 1)
        self.outputs = rows.shape[0]
        self.root = weight.sqrt().repeat(rows.shape[0])
        self.scale = float(self.rows.square().sum() / self.rows.shape[1])
        count, size = self.rows.shape
        self._by_rows = count < size
        self._matrix = None
        self._factor, self._damping = None, -1.0
        if min(count, size) <= MANY:
            a = self.rows.numpy()
            self._matrix = blas.dsyrk(1.0, a.T, trans=int(self._by_rows), lower=1)

    def push(self, change: Tensor) -> Tensor:
        """What a change of the weights (p,) does: (n, m)."""
        moved = (self.rows @ change) / self.root
        return moved.reshape(self.outputs, -1).T

    def pull(self, values: Tensor) -> Tensor:
        """J^T W of values (n, m): (p,)."""
        return self.rows.T @ (values.T.reshape(-1) * self.root)

    def solve(self, right: Tensor, damping: float) -> Tensor:
        """(J^T W J + damping scale)^-1 right, with `scale` the mean of the diagonal."""
        shift = damping * self.scale
        if self._matrix is None:
            return self._iterate(right, shift)
        if damping != self._damping:
            matrix = self._matrix.copy(order="F")
            matrix.flat[:: len(matrix) + 1] += shift
            self._factor, info = lapack.dpotrf(matrix, lower=1, overwrite_a=1)
            self._damping = damping if info == 0 else -1.0
            if info:
                raise ArithmeticError("the damped matrix is not positive definite")
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
