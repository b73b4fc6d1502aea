"""Several worlds in one launch: copies of one model that never touch each other.

In the user's order particles come world by world, each world in the order of the model. A layout orders them by body
instead, so that one launch of a law serves all worlds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from physim.checks import check_shape
from physim.errors import InputError
from physim.sim.model import Body, Model
from physim.sim.state import Control


class Worlds:
    """How `count` copies of a model lie in memory.

    Attributes:
        count: number of worlds.
        each: particles of one world.
        total: particles of all worlds.
        ranges: first and last particle (exclusive) of each body in the order of a layout.
    """

    def __init__(self, model: Model, count: int) -> None:
        if count < 1:
            raise InputError(f"worlds must be at least 1, got {count}.")
        self.count, self._model = count, model
        self.each = model.vol0.shape[0]
        self.total = count * self.each
        self._kinds: dict[int, str] = {}
        self.ranges: list[tuple[int, int]] = []
        at = 0
        for body in model.bodies:
            size = count * (body.stop - body.start)
            self.ranges.append((at, at + size))
            at += size

    def split(self, rows: Tensor) -> Tensor:
        """A tensor of all particles, (B n, ...), as (B, n, ...)."""
        return rows.reshape(self.count, self.each, *rows.shape[1:])

    def repeat(self, rows: Tensor) -> Tensor:
        """What one world has, (n, ...), for each of them, (B n, ...)."""
        return rows if self.count == 1 else rows.repeat(self.count, *(1,) * (rows.ndim - 1))

    def spread(self, name: str, given: Tensor) -> Tensor:
        """Vectors of one world, (n, 3), or of all, (B n, 3) or (B, n, 3), as (B n, 3); raises `InputError`."""
        if given.ndim == 3:
            check_shape(name, given, (self.count, self.each, 3))
            return given.reshape(self.total, 3)
        if given.shape[0] != self.total:
            check_shape(name, given, (self.each, 3))
            return self.repeat(given)
        check_shape(name, given, (self.total, 3))
        return given

    def of_body(self, rows: Tensor, body: Body) -> Tensor:
        """The rows of one body in all worlds."""
        return self.split(rows)[:, body.start : body.stop].flatten(0, 1)

    def check_parameters(self, thetas: Sequence[Tensor]) -> None:
        """Note of each material whether its parameters are shared, one per world, per particle of a world, or of all.

        Raises:
            InputError: rows that are none of these, or two of them.
        """
        for body in self._model.bodies:
            rows, size = thetas[body.material].shape[0], body.stop - body.start
            allowed = {"shared": 1, "world": self.count, "particle": size, "own": self.count * size}
            if self.count == 1:
                allowed = {"shared": 1, "particle": size}
            fits = [kind for kind, count in allowed.items() if count == rows]
            told = {"shared": "shared", "world": "one per world", "particle": "one per particle", "own": "of all"}
            if not fits:
                kinds = ", ".join(f"{n} ({told[kind]})" for kind, n in allowed.items())
                raise InputError(f"parameters of '{body.name}': expected one of {kinds} rows, got {rows}.")
            if rows > 1 and len(fits) > 1:
                raise InputError(
                    f"parameters of '{body.name}': {rows} rows may be one per world or one per particle, of which "
                    f"there are as many; give all {self.count * size} rows, world after world."
                )
            if self._kinds.get(body.material, fits[0]) != fits[0] and body is not self._first(body.material):
                raise InputError(
                    f"parameters of '{body.name}': {rows} rows are {told[fits[0]]} here, but not in another body of "
                    "the same material; give the body a material of its own."
                )
            self._kinds[body.material] = fits[0]

    def _first(self, material: int) -> Body:
        return next(b for b in self._model.bodies if b.material == material)

    def parameter_rows(self, body: Body, theta: Tensor, particles: Tensor) -> Tensor:
        """Row of `theta` for particles of a body, given by the user's index."""
        if theta.shape[0] == 1:
            return torch.zeros_like(particles)
        size = body.stop - body.start
        world, within = particles // self.each, particles % self.each - body.start
        return {"world": world, "particle": within, "own": world * size + within}[self._kinds[body.material]]

    def spread_parameters(self, body: Body, theta: Tensor) -> Tensor:
        """`theta` as one row, or as one row for each particle of a body in all worlds, in the user's order."""
        if theta.shape[0] == 1:
            return theta
        return theta[self.parameter_rows(body, theta, self.of_body(torch.arange(self.total), body))]

    def living(self, x: Tensor) -> list[int]:
        """Worlds whose positions are all numbers."""
        return torch.isfinite(self.split(x.detach())).all(dim=2).all(dim=1).nonzero()[:, 0].tolist()

    def part(self, chosen: list[int]) -> Worlds:
        """Some of the worlds, or these where all are chosen."""
        if len(chosen) == self.count:
            return self
        found = Worlds(self._model, len(chosen))
        found._kinds = self._kinds
        return found

    def rows_of(self, chosen: list[int], rows: Tensor) -> Tensor:
        """What belongs to some worlds, from one or several rows for each world."""
        return rows.reshape(self.count, -1, *rows.shape[1:])[chosen].flatten(0, 1)

    def inputs_of(self, chosen: list[int], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """A segment's inputs for some worlds."""
        shared = {"gravity"} if inputs["gravity"].shape[0] == 1 else set()
        shared |= {f"theta_{i}" for i, kind in self._kinds.items() if kind in ("shared", "particle")}
        return {n: t if n in shared else self.rows_of(chosen, t) for n, t in inputs.items()}

    def fill(self, chosen: list[int], rows: Tensor) -> Tensor:
        """Rows of all worlds from those of some, NaN for the others."""
        found = rows.new_full((self.count, self.each, *rows.shape[1:]), math.nan)
        index = torch.tensor(chosen, device=rows.device)
        return found.index_copy(0, index, rows.reshape(len(chosen), self.each, *rows.shape[1:])).flatten(0, 1)

    def motions(self, control: Control) -> dict[str, Tensor]:
        """Poses and twists of the colliders of all worlds, one world after the other, (B c, ...).

        A control gives them for one world, (c, ...), or with a leading axis for each.

        Raises:
            InputError: the shapes fit neither.
        """
        found = {}
        shapes: dict[str, Sequence[int]] = {"position": (3,), "rotation": (3, 3), "velocity": (3,), "spin": (3,)}
        for name, tail in shapes.items():
            given = getattr(control, name)
            c = len(self._model.colliders)
            if given.ndim == len(tail) + 2:
                check_shape(f"control.{name}", given, (self.count, c, *tail))
            else:
                check_shape(f"control.{name}", given, (c, *tail))
                given = given.expand(self.count, *given.shape)
            # A model without colliders still has the arguments.
            found[name] = given.reshape(-1, *tail) if c else given.new_zeros(self.count, *tail)
        return found

    def gravity(self, control: Control) -> Tensor:
        """Body acceleration [m/s^2], (1, 3), or (B, 3) where the control gives one for each world."""
        gravity = self._model.gravity.reshape(1, 3)
        if control.acceleration is None:
            return gravity
        extra = control.acceleration.to(gravity)
        if extra.ndim == 2:
            check_shape("control.acceleration", extra, (self.count, 3))
        else:
            check_shape("control.acceleration", extra, (3,))
        return gravity + extra.reshape(-1, 3)
