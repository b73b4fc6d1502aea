"""Plain torch: gathers and `index_add`, autograd through everything, the polar rotation with its closed adjoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tools.bench.case import DT, DX, GRAVITY, NODES, Case, Outcome, outcome


def cofactor(A: Tensor) -> Tensor:
    """Cofactors of (n, 3, 3)."""
    a, b, c = A.unbind(-2)
    return torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -2)


def determinant(A: Tensor) -> Tensor:
    """Determinants of (n, 3, 3), (n, 1, 1)."""
    a, b, c = A.unbind(-2)
    return (a * torch.linalg.cross(b, c)).sum(-1)[:, None, None]


class Polar(torch.autograd.Function):
    """R of F = R S by Newton's iteration."""

    @staticmethod
    def forward(ctx: Any, F: Tensor) -> Tensor:
        """(n, 3, 3) to (n, 3, 3)."""
        R = F
        for _ in range(8):
            before = R
            R = 0.5 * (R + cofactor(R) / determinant(R))
            if float((R - before).abs().max()) < 1e-6:
                break
        ctx.save_for_backward(F, R)
        return R

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """R [w]x with (tr(S) I - S) w = axial(M - M^T), M = R^T G."""
        F, R = ctx.saved_tensors
        S, M = R.mT @ F, R.mT @ grads[0]
        A = torch.diag_embed(S.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True).expand(-1, 3)) - S
        T = M - M.mT
        axial = torch.stack([T[:, 2, 1], T[:, 0, 2], T[:, 1, 0]], -1)
        w = (cofactor(A).mT @ axial[..., None] / determinant(A))[..., 0]
        return torch.linalg.cross(w[:, None, :].expand_as(R), R, dim=-1).neg()


def stress(F: Tensor, mu: Tensor, lam: Tensor, *, water: bool) -> Tensor:
    """Kirchhoff stress [Pa], (n, 3, 3)."""
    J = determinant(F)
    volumetric = lam * J * (J - 1) * torch.eye(3)
    if water:
        return volumetric
    R: Tensor = Polar.apply(F)  # type: ignore[assignment]
    return 2 * mu * (F - R) @ F.mT + volumetric


def forget_shape(F: Tensor) -> Tensor:
    """J^(1/3) I."""
    return determinant(F) ** (1 / 3) * torch.eye(3)


class Run:
    """Start and offsets as tensors."""

    def __init__(self, case: Case, threads: int) -> None:
        self._case, self._threads = case, threads
        self._start = [torch.as_tensor(getattr(case, k + "0")).float() for k in "xvF"]
        self._weights = torch.as_tensor(case.weights).float()
        line = torch.arange(3)
        self._offsets = torch.cartesian_prod(line, line, line)
        self._gravity = torch.tensor(GRAVITY)

    def _substep(self, x: Tensor, v: Tensor, C: Tensor, F: Tensor, mu: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        case = self._case
        tau = stress(F, mu, lam, water=case.water)
        A = case.mass * C - (4 * DT * case.vol0 / DX**2) * tau
        base = (x.detach() / DX - 0.5).long()
        u = x / DX - base
        w = torch.stack([0.5 * (1.5 - u) ** 2, 0.75 - (u - 1) ** 2, 0.5 * (u - 0.5) ** 2], 1)
        o = self._offsets
        share = (w[:, o[:, 0], 0] * w[:, o[:, 1], 1] * w[:, o[:, 2], 2])[..., None]
        d = (o - u[:, None, :]) * DX
        node = base[:, None, :] + o
        node = ((node[..., 0] * NODES + node[..., 1]) * NODES + node[..., 2]).reshape(-1)
        momentum = share * (case.mass * v[:, None, :] + d @ A.mT)
        columns = torch.cat([momentum, case.mass * share], -1).reshape(-1, 4)
        grid = torch.zeros(NODES**3, 4).index_add(0, node, columns)
        m = grid[:, 3:]
        velocity = torch.where(m > 0, grid[:, :3] / torch.where(m > 0, m, 1.0) + DT * self._gravity, 0.0)
        g = share * velocity.index_select(0, node).reshape(-1, 27, 3)
        v = g.sum(1)
        C = (4 / DX**2) * (g.mT @ d)
        F = F + DT * C @ F
        return x + DT * v, v, C, forget_shape(F) if case.water else F

    def _roll(self, v0: Tensor, modulus: Tensor, substeps: int) -> Tensor:
        torch.set_num_threads(self._threads)
        mu, lam = (modulus * r for r in self._case.moduli_per_modulus)
        x, v, F = self._start[0], v0, self._start[2]
        C = torch.zeros_like(F)
        for _ in range(substeps):
            x, v, C, F = self._substep(x, v, C, F, mu, lam)
        return x

    def _modulus(self) -> Tensor:
        return torch.tensor(self._case.moduli[1] / self._case.moduli_per_modulus[1])

    def forward(self, substeps: int) -> Outcome:
        """See `Runner`."""
        with torch.no_grad():
            return outcome(self._case, self._roll(self._start[1], self._modulus(), substeps))

    def gradient(self, substeps: int) -> Outcome:
        """See `Runner`."""
        v0, modulus = self._start[1].clone().requires_grad_(True), self._modulus().requires_grad_(True)
        x = self._roll(v0, modulus, substeps)
        (self._weights * x).sum().backward()
        assert v0.grad is not None and modulus.grad is not None
        return outcome(self._case, x.detach(), v0.grad, float(modulus.grad))


class Torch:
    """See the module."""

    name, threaded, largest, deepest = "torch", True, 70_000, (5000, 20_000_000)
    note = "index_add; torch.set_num_threads"

    def missing(self) -> str:
        """See `Program`."""
        return ""

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case, threads)
