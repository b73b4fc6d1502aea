"""The published networks stepped the plain way: per substep one torch call for the laws, and one `wp.Tape`.

It is as fast as that way gets here: rotation, stretches and what the perceptron reads come from one kernel with an
adjoint by hand instead of an SVD, and the transfers are kernels of one launch per stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import warp as wp
from torch import Tensor

from tools.nclaw.network import Perceptron
from tools.nclaw.plain_adjoints import kernels, taped
from tools.nclaw.plain_kernels import FEATURES, FLOOR, RATE
from tools.nclaw.plain_runs import Box

STATE = {"x": wp.vec3, "v": wp.vec3, "C": wp.mat33, "F": wp.mat33}


def rows(tensor: Tensor, kind: Any, *, grad: bool = False) -> wp.array:
    """A tensor as an array of one substep, (1, n)."""
    return wp.from_torch(tensor.detach().contiguous()[None], dtype=kind, requires_grad=grad)


class Encode(torch.autograd.Function):
    """F to its rotation and to what the perceptron reads."""

    @staticmethod
    def forward(ctx: Any, F: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, 3) to (n, 3, 3) and (n, 13)."""
        R, V, z = torch.empty_like(F), torch.empty_like(F), torch.empty(len(F), FEATURES)
        arrays = [rows(F, wp.mat33), 0, *(rows(t, wp.mat33) for t in (R, V)), rows(z, wp.float32)]
        wp.launch(kernels()["encode"], len(F), arrays, device="cpu")
        ctx.save_for_backward(F, R, V)
        return R, z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """See `encode_adjoint`."""
        F, R, V = ctx.saved_tensors
        found = torch.zeros_like(F)
        arrays = [rows(t, wp.mat33) for t in (F, R, V)]
        adjoints = [
            wp.from_torch(grads[0].contiguous(), dtype=wp.mat33),
            wp.from_torch(grads[1].contiguous(), dtype=wp.float32),
            wp.from_torch(found, dtype=wp.mat33),
        ]
        wp.launch(kernels()["encode_adjoint"], len(F), [*arrays, 0, *adjoints], device="cpu")
        return found


def symmetric(net: Perceptron, F: Tensor) -> Tensor:
    """R sym(X), (n, 3, 3)."""
    R, z = Encode.apply(F)  # type: ignore[misc]
    X = net(z).reshape(-1, 3, 3)
    return R @ (0.5 * (X + X.mT))


def stress(net: Perceptron, F: Tensor) -> Tensor:
    """Kirchhoff stress [Pa], (n, 3, 3)."""
    return symmetric(net, F) @ F.mT


class Transfers(torch.autograd.Function):
    """P2G, grid update and G2P of one substep under a tape."""

    @staticmethod
    def forward(ctx: Any, box: Box, volume: wp.array, *tensors: Tensor) -> tuple[Tensor, ...]:
        """(x, v, C, F, tau) to (x, v, C, F)."""
        n, side, grad = len(tensors[0]), box.side, any(ctx.needs_input_grad)
        given = [rows(t, k, grad=grad) for t, k in zip(tensors, (*STATE.values(), wp.mat33), strict=True)]
        out = [wp.zeros((1, n), dtype=k, device="cpu", requires_grad=grad) for k in STATE.values()]
        grid, moved = (wp.zeros((1, side**3), dtype=wp.vec4, device="cpu", requires_grad=grad) for _ in range(2))
        made, dx, tape = taped(), 1.0 / side, wp.Tape()
        gravity, plane = wp.vec3(*box.gravity), [wp.vec3(*values) for values in box.plane]

        def run() -> None:
            wp.launch(
                made["p2g"], n,
                [*given[:3], given[4], volume, 0, box.density, box.dt, dx, side, n], [grid], device="cpu",
            )  # fmt: skip
            wp.launch(
                made["grid_update"], side**3, [grid, 0, gravity, box.dt, FLOOR, side, *plane], [moved], device="cpu"
            )
            wp.launch(
                made["g2p"], n, [given[0], given[3], moved, 0, box.dt, dx, side, n, 0, 0], out, device="cpu"
            )  # fmt: skip

        if grad:
            with tape:
                run()
            ctx.kept = tape, given, out
        else:
            run()
        return tuple(wp.to_torch(a).detach()[0] for a in out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Play the tape backwards."""
        tape, given, out = ctx.kept
        ctx.kept = None
        seeds = zip(out, grads, STATE.values(), strict=True)
        tape.backward(grads={a: rows(g, k) for a, g, k in seeds})
        return None, None, *(wp.to_torch(a.grad)[0].clone() for a in given)


class PlainRun:
    """A body under the published networks.

    Args:
        box: its scene.
        elastic: network.
        plastic: network, or a function of F; no plastic map without.
    """

    def __init__(
        self, box: Box, elastic: Perceptron, plastic: Perceptron | Callable[[Tensor], Tensor] | None = None
    ) -> None:
        wp.init()
        self._box, self._elastic, self._plastic = box, elastic, plastic
        self._volume = wp.from_torch(box.volume.float().contiguous(), dtype=wp.float32, requires_grad=False)

    def roll(self, x: Tensor, v: Tensor, F: Tensor, substeps: int) -> Tensor:
        """Positions [m] after so many substeps, differentiable."""
        C = torch.zeros_like(F)
        for _ in range(substeps):
            tau = stress(self._elastic, F)
            x, v, C, F = Transfers.apply(self._box, self._volume, x, v, C, F, tau)  # type: ignore[misc]
            if isinstance(self._plastic, Perceptron):
                F = F + RATE * symmetric(self._plastic, F)
            elif self._plastic:
                F = self._plastic(F)
        return x
