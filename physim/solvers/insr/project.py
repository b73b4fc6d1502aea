"""The weights whose field comes nearest to given values: damped Gauss-Newton, accepted only where it is nearer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.solvers.insr.adam import Descent, descend
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.normal import Normal, chosen

LEAST, MOST = 1e-14, 1e3
"""Damping that is neither lowered nor raised further, over the mean of the matrix's diagonal."""
TRUSTED, DOUBTED = 0.75, 0.25
"""Share of the predicted gain above which damping is lowered, and below which it is raised."""
SLOW = 0.5
"""Factor of the loss above which going on with an old matrix does not pay."""


def _same(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Match:
    """What a field is to reproduce.

    Attributes:
        function: from weights to values at points, (n, m).
        target: values wanted, (n, m).
        weight: of the points, (n,), 1 in all.
        seen: how values follow from derivatives, where that is asked for.
    """

    function: Callable[[Weights], Tensor]
    target: Tensor
    weight: Tensor
    seen: Callable[[Tensor], Tensor] = _same

    def missed(self, flat: Tensor) -> Tensor:
        """Values less those wanted, (n, m)."""
        with torch.no_grad():
            return self.function(Weights(flat)) - self.target

    def differentiable(self, flat: Tensor) -> Tensor:
        """The loss at weights, (), for a descent."""
        return (self.weight[:, None] * (self.function(Weights(flat)) - self.target).square()).sum()

    def loss(self, missed: Tensor) -> float:
        """Mean square over the points, summed over the values."""
        return float((self.weight[:, None] * missed.square()).sum())


@dataclass(frozen=True)
class Projection:
    """How hard to look for the nearest field.

    Attributes:
        tolerance: root mean square at which it is near enough, in units of the values.
        linearisations: at most so many new matrices; each costs as much as a hundred looks at the misfit.
        repeats: at most so many steps with one matrix.
        damping: at the start of each search, over the mean of the matrix's diagonal. It keeps weights near where they
            begin in directions that hardly matter; without it they drift until the field cannot move any more.
        adam: descend by Adam instead, as published: thousands of iterations for what one linearisation does.
    """

    tolerance: float = 1e-9
    linearisations: int = 2
    repeats: int = 20
    damping: float = 1e-6
    adam: Descent | None = None


@dataclass(frozen=True)
class Found:
    """Weights, and how near their field comes.

    Attributes:
        weights: (p,).
        rms: root mean square of what is missed at the points.
        linearisations: matrices that were formed.
        stuck: no damping made it nearer, and it is not within the tolerance.
    """

    weights: Tensor
    rms: float
    linearisations: int
    stuck: bool = False


def project(match: Match, start: Tensor, how: Projection, *, first: Normal | None = None) -> Found:
    """Bring a field near to values.

    Each linearisation is used until it gains no more than `SLOW`; the next begins with damping that follows the gain
    found over the gain predicted (Levenberg 1944; Nocedal and Wright, Numerical Optimization, section 10.3).

    Args:
        match: what is wanted.
        start: weights to begin with, (p,).
        how: see there.
        first: the matrix at weights nearby, used before one is formed.
    """
    if how.adam is not None:
        reached = descend(match.differentiable, start, how.adam)
        rms = math.sqrt(match.loss(match.missed(reached.weights)))
        return Found(reached.weights, rms, reached.iterations)
    weights, missed = start, match.missed(start)
    loss, damping, count, stuck = match.loss(missed), how.damping, 0, False
    if first is not None:
        weights, missed, loss = _repeat(match, first, weights, missed, loss, damping, how)
    while count < how.linearisations and math.sqrt(loss) > how.tolerance and not stuck:
        normal, count = Normal(match.function, weights, match.weight, chosen(weights)), count + 1
        slope, before = normal.pull(missed), loss
        while True:
            step = -normal.solve(slope, damping)
            moved = match.missed(weights + step)
            now = match.loss(moved)
            if now < loss:
                break
            damping *= 10.0
            if damping > MOST:
                stuck = True
                break
        if stuck:
            break
        gain = (loss - now) / max(loss - match.loss(missed + normal.push(step)), 1e-300)
        weights, missed, loss = weights + step, moved, now
        weights, missed, loss = _repeat(match, normal, weights, missed, loss, damping, how)
        if gain > TRUSTED:
            damping = max(damping / 8.0, LEAST)
        elif gain < DOUBTED:
            damping = min(damping * 4.0, MOST)
        if loss > (1 - 1e-6) * before:
            break
    rms = math.sqrt(loss)
    return Found(weights, rms, count, stuck and rms > how.tolerance)


def _repeat(
    match: Match, normal: Normal, weights: Tensor, missed: Tensor, loss: float, damping: float, how: Projection
) -> tuple[Tensor, Tensor, float]:
    """Steps with a matrix that is not formed anew."""
    for _ in range(how.repeats):
        if math.sqrt(loss) <= how.tolerance:
            break
        step = -normal.solve(normal.pull(missed), damping)
        moved = match.missed(weights + step)
        now, before = match.loss(moved), loss
        if now < loss:
            weights, missed, loss = weights + step, moved, now
        if not now < SLOW * before:
            break
    return weights, missed, loss
