"""Stepping as NCLaw does it: per substep one torch call for the law, and one `wp.Tape` around the Warp transfers."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp
from torch import Tensor

from tools.bench import program_torch
from tools.bench.case import Case
from tools.bench.program_torch import forget_shape, stress
from tools.bench.program_warp import grid_fields, particle_fields, transfer

INPUTS = ("x", "v", "C", "F", "tau")
OUTPUTS = INPUTS[:4]
TYPES = {"x": wp.vec3, "v": wp.vec3, "C": wp.mat33, "F": wp.mat33, "tau": wp.mat33}


class Transfers(torch.autograd.Function):
    """P2G, grid update and G2P of one substep."""

    @staticmethod
    def forward(ctx: Any, case: Case, grad: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        """(x, v, C, F, tau) to (x, v, C, F)."""
        given = {
            k: wp.from_torch(t.detach().contiguous(), dtype=TYPES[k], requires_grad=grad)
            for k, t in zip(INPUTS, tensors, strict=True)
        }
        out, grid = particle_fields(case.count, grad=grad), grid_fields(grad=grad)
        if grad:
            with wp.Tape() as tape:
                transfer(case, given, grid, out, water=False)
            ctx.kept = tape, given, out, tensors
        else:
            transfer(case, given, grid, out, water=False)
        return tuple(wp.to_torch(out[k]).detach().clone() for k in OUTPUTS)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Play the tape backwards."""
        tape, given, out, _ = ctx.kept
        pairs = zip(OUTPUTS, grads, strict=True)
        tape.backward(grads={out[k]: wp.from_torch(g.contiguous(), dtype=TYPES[k]) for k, g in pairs})
        found = tuple(wp.to_torch(given[k].grad).clone() for k in INPUTS)
        ctx.kept = None
        return None, None, *found


class Run(program_torch.Run):
    """The torch program with other transfers."""

    def _substep(self, x: Tensor, v: Tensor, C: Tensor, F: Tensor, mu: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        case = self._case
        tau = stress(F, mu, lam, water=case.water)
        x, v, C, F = Transfers.apply(case, torch.is_grad_enabled(), x, v, C, F, tau)  # type: ignore[misc]
        return x, v, C, forget_shape(F) if case.water else F


class NclawStyle:
    """See the module."""

    name, threaded, largest, deepest = "nclaw_style", True, 70_000, (900, 15_000_000)
    note = "the law in torch (threads), transfers in Warp (one thread); analytic law, no network"

    def missing(self) -> str:
        """See `Program`."""
        return ""

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case, threads)
