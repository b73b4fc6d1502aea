"""Conditions that hold for all weights: values at walls by distance factors, periods by waves as coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from physim.errors import InputError
from physim.solvers.insr.fields import Box, Field
from physim.solvers.insr.jets import Jet, joined
from physim.solvers.insr.maps import Weights

Powers = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Around:
    """What a field with conditions has of the field within it.

    Attributes:
        field: what has the weights.
    """

    field: Field

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.field.size

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.field.dim

    @property
    def outputs(self) -> int:
        """Numbers that it gives."""
        return self.field.outputs

    def start(self, generator: torch.Generator) -> Tensor:
        """Weights to begin with."""
        return self.field.start(generator)


@dataclass(frozen=True)
class Walled(_Around):
    """A field times a power of the distance from each chosen side of a box, plus a given function.

    With power 1 the value at a side is that of `lift`, with power 2 its normal derivative too, whatever the weights.

    Attributes:
        field: what has the weights.
        box: whose sides are meant.
        powers: for each axis, the power at its lower and its upper side; 0 leaves a side free.
        lift: a function with the values wanted there; zero unless given.
        held: which outputs; all unless given.
    """

    box: Box
    powers: Powers
    lift: Callable[[Jet], Jet] | None = None
    held: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.powers) != self.box.dim or self.box.dim != self.field.dim:
            raise InputError(
                f"powers for {len(self.powers)} axes, a box with {self.box.dim}, a field of {self.field.dim}."
            )

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """Factor times field, plus lift."""
        out, near = self.field(weights, x), self.box.centred(x)
        mask = torch.ones(1, self.outputs, dtype=torch.float64)
        if self.held is not None:
            mask = mask * torch.tensor([[float(k in self.held) for k in range(self.outputs)]])
        for axis, powers in enumerate(self.powers):
            s = near[axis]
            for power, sign in zip(powers, (1.0, -1.0), strict=True):
                for _ in range(power):
                    # 1 + s at the lower side, 1 - s at the upper: zero there, one in the middle.
                    side = (s * sign).each(lambda a: a * mask)
                    out = out * Jet(side.terms, (side.value + 1.0, *side.parts[1:]))
        return out if self.lift is None else out + self.lift(x)


@dataclass(frozen=True)
class Periodic(_Around):
    """A field of sine and cosine of some coordinates, which makes it periodic in them, with all derivatives.

    Attributes:
        field: of the waves and the other coordinates, all within -1 to 1; see `wave_box`.
        box: one period along each periodic axis.
        axes: which are periodic.
    """

    box: Box
    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.field.dim != self.box.dim + len(self.axes):
            raise InputError(f"a field of {self.box.dim + len(self.axes)} coordinates is needed, not {self.field.dim}.")

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """The field of the waves."""
        near, features = self.box.centred(x), []
        for axis in range(self.box.dim):
            if axis in self.axes:
                phase = near[axis] * torch.pi
                features += [phase.sin(), phase.cos()]
            else:
                features.append(near[axis])
        return self.field(weights, joined(features))


@dataclass(frozen=True)
class Linear(_Around):
    """What small changes of a field's weights do, as a field of its own: linear in its weights, which begin at zero.

    Each weight has a function of space of its own, d field / d weight at the weights that the field begins with. What
    is linear has no valleys to creep along, so that energies are minimised in a few Newton steps.

    Attributes:
        field: whose changes.
        seed: of the weights that it begins with.
    """

    seed: int = 0

    @cached_property
    def first(self) -> Tensor:
        """The weights of the field that is changed."""
        return self.field.start(torch.Generator().manual_seed(self.seed))

    def start(self, generator: torch.Generator) -> Tensor:
        """Zeros."""
        return torch.zeros(self.size, dtype=torch.float64)

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """The change that the weights make."""
        wide = x.following()
        here = self.field(Weights(self.first, weights.flat), wide).change()
        if weights.along is not None:
            return here.with_change(self.field(Weights(self.first, weights.along), wide).change())
        if weights.recording:
            # A weight does what it does to the field at its first weights: that is recorded, the value is put right.
            felt = self.field(Weights(self.first, recording=True, maps=weights.maps), x)
            return felt + (here + felt * -1.0).each(Tensor.detach)
        return here


@dataclass(frozen=True)
class Mirrored(_Around):
    """prod sin(a_i) N(..., cos a_i, ...), a_i = pi/2 (s_i + 1) with s from -1 to 1: odd about both sides of an axis.

    The value and all even derivatives across are zero there, whatever the weights: walls that are slippery and free of
    stress. Viscous flow needs this: where only the value is zero, nothing tells the vorticity at the wall, and errors
    there grow.

    Attributes:
        field: of the cosines, and of coordinates of other axes, all in the box from -1 to 1.
        box: whose sides are meant.
        axes: which are mirrored; all unless given.
    """

    box: Box
    axes: tuple[int, ...] | None = None

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """Sines times the field of the cosines."""
        near, features, sines = self.box.centred(x), [], []
        for axis in range(self.box.dim):
            if self.axes is not None and axis not in self.axes:
                features.append(near[axis])
                continue
            # sin a is the cosine of the centred phase, and cos a its sine, negative.
            phase = near[axis] * (0.5 * torch.pi)
            features.append(phase.sin())
            sines.append(phase.cos())
        out = self.field(weights, joined(features))
        for sine in sines:
            out = out * sine
        return out


@dataclass(frozen=True)
class Moved(_Around):
    """A field of a body plus a motion of one side of a box, which comes to nothing at the side opposite.

    Attributes:
        field: what has the weights; zero at that side, by `Walled`.
        box: whose side is meant.
        axis, high: which side.
        path: where the side is at a time, from where it began [m], (outputs,).
        time: at which the field is looked at [s], see `at`.
    """

    box: Box
    axis: int
    high: bool
    path: Callable[[float], Tensor]
    time: float = 0.0

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """Field plus motion."""
        half = 0.5 * self.path(self.time)
        near = (self.box.centred(x)[self.axis] * (1.0 if self.high else -1.0)).each(lambda a: a * half)
        return self.field(weights, x) + Jet(near.terms, (near.value + half, *near.parts[1:]))


def at(field: Field, t: float) -> Field:
    """A field as it is at a time [s], where its conditions move."""
    if not isinstance(field, _Around):
        return field
    inner = at(field.field, t)
    if isinstance(field, Moved):
        return replace(field, field=inner, time=t)
    return field if inner is field.field else replace(field, field=inner)


def wave_box(box: Box, axes: tuple[int, ...]) -> Box:
    """The box of what a `Periodic` field sees."""
    count = box.dim + len(axes)
    return Box((-1.0,) * count, (1.0,) * count)
