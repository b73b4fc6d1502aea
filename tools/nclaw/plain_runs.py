"""Runs of a body with the published networks, many side by side, and their gradients by the weights.

Made to be as fast as a plain program gets, so that a budget of seconds buys the published recipe as much as it can:
runs from all restarts of an epoch are worlds of one launch, decompositions and transfers are kernels with adjoints by
hand, and the perceptron is three matrix products without autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.errors import InputError
from physim.numeric import F32
from tools.nclaw.network import WIDTH, Perceptron
from tools.nclaw.plain_adjoints import kernels
from tools.nclaw.plain_kernels import FEATURES, FLOOR, RATE


@dataclass(frozen=True)
class Box:
    """The scene of a run: unit cube, free-slip walls.

    Attributes:
        volume: of the particles [m^3], (n,).
        side: nodes per axis.
        dt: substep [s].
        density: [kg/m^3].
        gravity: [m/s^2].
        plane: point [m] and unit normal of one more slippery wall, in runs without gradients; no such wall if zero.
    """

    volume: Tensor
    side: int
    dt: float
    density: float = 1e3
    gravity: tuple[float, float, float] = (0.0, -9.8, 0.0)
    plane: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,) * 3, (0.0,) * 3)


@dataclass(frozen=True)
class Law:
    """What a material does.

    Attributes:
        elastic: a network, or a function of F to tau (without gradients), both (n, 3, 3).
        plastic: a network; "water" forgets its shape; None changes nothing.
    """

    elastic: Perceptron | Callable[[Tensor], Tensor]
    plastic: Perceptron | Callable[[Tensor], Tensor] | str | None = None


class Pass:
    """A perceptron over substeps, forward and backward, with what it keeps."""

    def __init__(self, net: Perceptron, rows: int, particles: int) -> None:
        self._layers = net.linear
        self._weights = [layer.weight.detach() for layer in self._layers]
        self.z = torch.empty(rows, particles, FEATURES)
        self.R, self.V, self.X = (torch.empty(rows, particles, 3, 3) for _ in range(3))
        self._kept = [torch.empty(rows, particles, WIDTH) for _ in range(4)]
        self.grads = [torch.zeros_like(w) for w in self._weights]
        self.adj_X, self.adj_R = (torch.empty(particles, 3, 3) for _ in range(2))
        self.adj_z = torch.empty(particles, FEATURES)
        self._adj = [torch.empty(particles, WIDTH) for _ in range(2)]

    def forward(self, t: int) -> None:
        """From z to X of one substep."""
        a, h, b, k = (kept[t] for kept in self._kept)
        first, second, third = self._weights
        torch.mm(self.z[t], first.mT, out=a)
        torch.ops.aten.gelu.out(a, out=h)
        torch.mm(h, second.mT, out=b)
        torch.ops.aten.gelu.out(b, out=k)
        torch.mm(k, third.mT, out=self.X[t].view(-1, 9))

    def backward(self, t: int) -> None:
        """From adj_X to adj_z; adds to the weights' gradients."""
        a, h, b, k = (kept[t] for kept in self._kept)
        first, second, third = self._weights
        grad = self.adj_X.view(-1, 9)
        self.grads[2].addmm_(grad.mT, k)
        torch.mm(grad, third, out=self._adj[0])
        torch.ops.aten.gelu_backward.grad_input(self._adj[0], b, grad_input=self._adj[1])
        self.grads[1].addmm_(self._adj[1].mT, h)
        torch.mm(self._adj[1], second, out=self._adj[0])
        torch.ops.aten.gelu_backward.grad_input(self._adj[0], a, grad_input=self._adj[1])
        self.grads[0].addmm_(self._adj[1].mT, self.z[t])
        torch.mm(self._adj[1], first, out=self.adj_z)

    def give(self) -> None:
        """Add the gradients to those of the network."""
        for layer, grad in zip(self._layers, self.grads, strict=True):
            layer.weight.grad = grad.clone() if layer.weight.grad is None else layer.weight.grad + grad
            grad.zero_()


class Runs:
    """Worlds of one body, over up to `rows` substeps.

    Args:
        law: of the body.
        box: its scene.
        worlds: side by side.
        rows: substeps that are kept.
    """

    def __init__(self, law: Law, box: Box, worlds: int, rows: int) -> None:
        wp.init()
        self.law, self.box, self.rows = law, box, rows
        each = len(box.volume)
        self.count = n = worlds * each
        self._kernels = kernels()
        self._nodes = worlds * box.side**3

        def new(*shape: int) -> Tensor:
            return torch.zeros(shape)

        self.x, self.v = new(rows + 1, n, 3), new(rows + 1, n, 3)
        self.C, self.F = new(rows + 1, n, 3, 3), new(rows + 1, n, 3, 3)
        self._trial = self.F if law.plastic is None else new(rows, n, 3, 3)
        self._tau, self._grid = new(rows, n, 3, 3), new(rows, self._nodes, 4)
        self._adj_x, self._adj_v = new(n, 3), new(n, 3)
        self._adj_C, self._adj_F, self._adj_tau, self._adj_grid = (
            new(n, 3, 3),
            new(n, 3, 3),
            new(n, 3, 3),
            new(self._nodes, 4),
        )
        self._elastic = Pass(law.elastic, rows, n) if isinstance(law.elastic, Perceptron) else None
        self._plastic = Pass(law.plastic, rows, n) if isinstance(law.plastic, Perceptron) else None
        self._volume = self._array(box.volume.float().repeat(worlds), "real")
        self._held = {
            "x": "vec3", "v": "vec3", "C": "mat33", "F": "mat33", "_trial": "mat33", "_tau": "mat33", "_grid": "vec4",
            "_adj_x": "vec3", "_adj_v": "vec3", "_adj_C": "mat33", "_adj_F": "mat33", "_adj_tau": "mat33",
            "_adj_grid": "vec4",
        }  # fmt: skip
        self._a = {name.lstrip("_"): self._array(getattr(self, name), kind) for name, kind in self._held.items()}
        self._of = {id(p): self._arrays(p) for p in (self._elastic, self._plastic) if p}
        self._scene = (box.density, box.dt, 1.0 / box.side, box.side, each)

    def _array(self, tensor: Tensor, kind: str) -> wp.array:
        return wp.from_torch(tensor, dtype=getattr(F32, kind), requires_grad=False)

    def _arrays(self, done: Pass) -> dict[str, wp.array]:
        kinds = {"z": "real", "R": "mat33", "V": "mat33", "X": "mat33", "adj_X": "mat33", "adj_R": "mat33"}
        return {name: self._array(getattr(done, name), kind) for name, kind in (kinds | {"adj_z": "real"}).items()}

    def _launch(self, name: str, dim: int, *args: Any) -> None:
        wp.launch(self._kernels[name], dim, inputs=list(args), device="cpu")

    def begin(self, x: Tensor, v: Tensor, C: Tensor, F: Tensor) -> None:
        """Start from these states, (n, ...)."""
        for name, value in (("x", x), ("v", v), ("C", C), ("F", F)):
            getattr(self, name)[0].copy_(value.reshape(getattr(self, name)[0].shape))

    def forward(self, substeps: int) -> None:
        """Fill rows 1 to `substeps`."""
        self._grid[:substeps].zero_()
        a, n, box = self._a, self.count, self.box
        density, dt, dx, side, each = self._scene
        gravity, plane = F32.vec3(*box.gravity), [F32.vec3(*values) for values in box.plane]
        for t in range(substeps):
            self._stress(t)
            self._launch(
                "p2g", n, a["x"], a["v"], a["C"], a["tau"], self._volume, t, density, dt, dx, side, each, a["grid"]
            )
            self._launch("grid_update", self._nodes, a["grid"], t, gravity, dt, FLOOR, side, *plane, a["grid"])
            row = t + 1 if self.law.plastic is None else t
            moved = (a["x"], a["v"], a["C"], a["trial"])
            self._launch("g2p", n, a["x"], a["F"], a["grid"], t, dt, dx, side, each, t + 1, row, *moved)
            self._map(t)

    def _stress(self, t: int) -> None:
        if self._elastic is None:
            self._tau[t] = self.law.elastic(self.F[t])
            return
        a, o, n = self._a, self._of[id(self._elastic)], self.count
        self._launch("encode", n, a["F"], t, o["R"], o["V"], o["z"])
        self._elastic.forward(t)
        self._launch("decode", n, a["F"], o["R"], o["X"], t, a["tau"])

    def _map(self, t: int) -> None:
        a, n = self._a, self.count
        if self._plastic:
            o = self._of[id(self._plastic)]
            self._launch("encode", n, a["trial"], t, o["R"], o["V"], o["z"])
            self._plastic.forward(t)
            self._launch("flow", n, a["trial"], o["R"], o["X"], t, a["F"], RATE)
        elif self.law.plastic == "water":
            self._launch("forget", n, a["trial"], t, a["F"])
        elif callable(self.law.plastic):
            self.F[t + 1] = self.law.plastic(self._trial[t])

    def backward(self, substeps: int, slope: Callable[[int], Tensor | None]) -> None:
        """Gradients of the weights.

        Args:
            substeps: as given to `forward`.
            slope: of the loss by the positions of a row, (n, 3), or None where it does not look at them.
        """
        if any(self.box.plane[1]) or self._elastic is None or (callable(self.law.plastic) and not self._plastic):
            raise InputError("gradients are of runs of networks in the box alone, without another plane or law.")
        for tensor in (self._adj_x, self._adj_v, self._adj_C, self._adj_F):
            tensor.zero_()
        for t in reversed(range(substeps)):
            seen = slope(t + 1)
            if seen is not None:
                self._adj_x += seen.reshape(self._adj_x.shape)
            self._back(t)
        for done in (self._elastic, self._plastic):
            if done:
                done.give()

    def _back(self, t: int) -> None:
        a, n, box = self._a, self.count, self.box
        density, dt, dx, side, each = self._scene
        if self._plastic:
            o = self._of[id(self._plastic)]
            self._launch("flow_adjoint", n, o["R"], o["X"], t, a["adj_F"], RATE, o["adj_X"], o["adj_R"])
            self._plastic.backward(t)
            self._launch("encode_adjoint", n, a["trial"], o["R"], o["V"], t, o["adj_R"], o["adj_z"], a["adj_F"])
        elif self.law.plastic == "water":
            self._launch("forget_adjoint", n, a["trial"], t, a["adj_F"])
        self._adj_grid.zero_()
        ends = (a["adj_x"], a["adj_v"], a["adj_C"])
        moved = (a["x"], a["v"], a["C"], a["F"], a["grid"])
        self._launch("g2p_adjoint", n, *moved, t, dt, dx, side, each, *ends, a["adj_F"], a["adj_grid"])
        gravity = F32.vec3(*box.gravity)
        self._launch("grid_adjoint", self._nodes, a["grid"], t, gravity, dt, FLOOR, a["adj_grid"])
        held = (a["x"], a["v"], a["C"], a["tau"], self._volume, a["adj_grid"])
        self._launch("p2g_adjoint", n, *held, t, density, dt, dx, side, each, *ends, a["adj_tau"])
        assert self._elastic is not None
        o = self._of[id(self._elastic)]
        self._launch("decode_adjoint", n, a["F"], o["R"], o["X"], t, a["adj_tau"], o["adj_X"], o["adj_R"], a["adj_F"])
        self._elastic.backward(t)
        self._launch("encode_adjoint", n, a["F"], o["R"], o["V"], t, o["adj_R"], o["adj_z"], a["adj_F"])
