"""The record of many substeps, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from physim.errors import SimulationError


class Status(Enum):
    """How a rollout ended: a sentence with the cure in it."""

    OK = "finished"
    NONFINITE = "a particle's state is not finite: use a smaller dt, or check the material's parameters"
    LEFT_GRID = "a particle left the grid: enlarge the grid, or add a wall or collider that holds it"
    TOO_FAST = "a particle crosses more than one cell per substep: use a smaller dt (dt: auto finds one)"
    MISSED = "the field cannot follow: use a smaller dt, or a field with more weights or a higher frequency"
    UNRESOLVED = "the field cannot show the initial condition: use more weights or a higher frequency"
    INVERTED = "a particle's volume became negative: use a smaller dt, more particles per cell, or a stiffer material"


class RolloutFailure(SimulationError):
    """A substep that could not be completed.

    Attributes:
        status: what went wrong.
        substep: the first substep that failed, counted from the start of the segment or rollout.
        particle: the first particle in it; -1 where there are none.
        world: its world, or None where there is one only.
        t: time at the start of that substep [s].
        quantity: what of the particle is wrong, such as `deformation gradient F`; empty where the solver cannot tell.
        detail: the numbers.
    """

    def __init__(
        self,
        status: Status,
        *,
        substep: int,
        particle: int,
        t: float,
        quantity: str = "",
        detail: str = "",
        world: int | None = None,
    ) -> None:
        self.status = status
        self.substep = substep
        self.particle = particle
        self.world = world
        self.t = t
        self.quantity = quantity
        self.detail = detail
        what = f", {quantity}" if quantity else ""
        told = f" ({detail})" if detail else ""
        where = "" if world is None else f"world {world}, "
        which = f"particle {particle}" if particle >= 0 else "the field"
        super().__init__(f"substep {substep} (t = {t:.6g} s), {where}{which}{what}: {status.value}{told}.")

    def after(self, substeps: int) -> RolloutFailure:
        """The same failure, its substep counted from `substeps` earlier."""
        return self._again(substep=self.substep + substeps)

    def in_world(self, world: int) -> RolloutFailure:
        """The same failure in a world of another number."""
        return self._again(world=world)

    def remarked(self, told: str) -> RolloutFailure:
        """The same failure with a further sentence, if it is not empty."""
        found = self._again()
        found.args = (" ".join([str(self), *([told] if told else [])]),)
        return found

    def _again(self, **changes: Any) -> RolloutFailure:
        names = ("substep", "particle", "world", "t", "quantity", "detail")
        return RolloutFailure(self.status, **({n: getattr(self, n) for n in names} | changes))


@dataclass
class Trajectory:
    """What a rollout leaves behind.

    Attributes:
        times: times of the saved entries [s].
        saved: what `save(state)` returned at those times.
        final: the last state.
        status: how it ended.
        failure: the failure, if any.
        failures: that of each world that has been dropped on the way.
        stats: substeps, dt [s], wall time [s], kept states, memory [bytes].
    """

    times: list[float]
    saved: list[Any]
    final: Any
    status: Status = Status.OK
    failure: RolloutFailure | None = None
    failures: dict[int, RolloutFailure] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
