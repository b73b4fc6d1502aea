"""The fields next to a field: where small changes of its weights lead, and which of them does what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from physim.solvers.insr.fields import Field
from physim.solvers.insr.jets import Index, coordinates
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.normal import Normal, chosen
from physim.solvers.insr.points import Points


class Problem(Protocol):
    """What a field stands for: derivatives of it that count."""

    @property
    def wanted(self) -> Sequence[Index]:
        """Derivatives of the field that the problem reads."""
        ...

    @property
    def carried(self) -> Sequence[tuple[Index, float]]:
        """What is carried from step to step, and given at the start: derivatives, each with a factor."""
        ...


class Equation(Problem, Protocol):
    """A differential equation, as far as a step needs to know it."""

    def rate(self, q: Tensor) -> Tensor:
        """How fast what is carried changes, (n, m), from derivatives as in `wanted`, (n, outputs, k)."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What of it may be fitted."""
        ...


def derivatives(field: Field, weights: Weights, x: Tensor, wanted: Sequence[Index]) -> Tensor:
    """Derivatives of a field at points, (n, outputs, k); those of its change, too, where `weights` has one."""
    along = weights.along is not None
    order = max(sum(index) for index in wanted)
    jet = field(weights, coordinates(x, order, along))
    if not along:
        return jet.derivatives(wanted)
    return jet.derivatives([*((*i, 0) for i in wanted), *((*i, 1) for i in wanted)])


def carried(field: Field, problem: Problem, weights: Weights, x: Tensor) -> Tensor:
    """What a step matches, (n, m)."""
    found = derivatives(field, weights, x, [index for index, _ in problem.carried])
    return _carried(found, problem)


def _carried(q: Tensor, problem: Problem) -> Tensor:
    factors = q.new_tensor([f for _, f in problem.carried])
    return (q * factors).flatten(1)


class Tangent:
    """The linear space of fields u0 + J delta at weights `flat`.

    Args:
        field, problem: see there.
        points: where it is looked at.
        flat: weights, (p,).
        damping: of `solve`, over the mean of the diagonal of J^T W J: how much of what hardly matters is left undone.
    """

    def __init__(self, field: Field, problem: Equation, points: Points, flat: Tensor, damping: float) -> None:
        self.field, self.problem, self.points, self.damping = field, problem, points, damping
        self.flat = flat.detach()
        self.normal = Normal(
            lambda w: carried(field, problem, w, points.x), self.flat, points.weight, chosen(self.flat)
        )

    @property
    def held(self) -> float:
        """The damping itself."""
        return self.damping * self.normal.scale

    def values(self, flat: Tensor) -> Tensor:
        """What is carried at weights, (n, m)."""
        return carried(self.field, self.problem, Weights(flat), self.points.x)

    def moved(self, flat: Tensor, change: Tensor, wanted: Sequence[Index]) -> tuple[Tensor, Tensor]:
        """Derivatives at weights, and what a change of these does to them, (n, outputs, k) each; differentiable."""
        both = derivatives(self.field, Weights(flat, change), self.points.x, wanted)
        return both[..., : len(wanted)], both[..., len(wanted) :]

    def push(self, flat: Tensor, change: Tensor) -> Tensor:
        """What a change of the weights does to what is carried, (n, m)."""
        _, done = self.moved(flat, change, [index for index, _ in self.problem.carried])
        return _carried(done, self.problem)

    def rate(self, flat: Tensor, change: Tensor | None = None) -> Tensor:
        """The rate of the field u0 + J change, (n, m)."""
        wanted = self.problem.wanted
        if change is None:
            return self.problem.rate(derivatives(self.field, Weights(flat), self.points.x, wanted))
        q, done = self.moved(flat, change, wanted)
        return self.problem.rate(q + done)

    def solve(self, flat: Tensor, values: Tensor) -> Tensor:
        """The change of the weights that does `values` (n, m) as nearly as can be, (p,); differentiable."""
        found = _Solve.apply(flat, values, self)
        assert isinstance(found, Tensor)
        return found

    def back(self, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoint of `solve`: y = (J^T W J)^-1 cotangent, (p,), and W J y, (n, m)."""
        y = self.normal.solve(cotangent, self.damping)
        return y, self.points.weight[:, None] * self.normal.push(y)


class _Solve(torch.autograd.Function):
    """x = (J^T W J)^-1 J^T W f; see `Tangent.solve`."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, values: Tensor, tangent: Tangent) -> Tensor:
        found = tangent.normal.solve(tangent.normal.pull(values.detach()), tangent.damping)
        ctx.tangent = tangent
        ctx.save_for_backward(values, found)
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, Tensor, None]:
        """With y = (J^T W J)^-1 xbar: fbar = W J y, and (J y) . W (f - J x) has the slope of the weights."""
        tangent: Tangent = ctx.tangent
        values, found = ctx.saved_tensors
        y, pulled = tangent.back(cotangents[0])
        if not ctx.needs_input_grad[0]:
            return None, pulled, None
        with torch.enable_grad():
            flat = tangent.flat.clone().requires_grad_()
            left = values.detach() - tangent.push(flat, found.detach())
            product = (tangent.points.weight[:, None] * tangent.push(flat, y) * left).sum()
            (slope,) = torch.autograd.grad(product, flat)
        return slope, pulled, None
