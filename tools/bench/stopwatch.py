"""A crew that runs the launches of a plan one kernel after the other, and notes how long each takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import warp as wp

from physim.crew import Crew, Plan
from physim.launch import Launch
from physim.solvers.mpm.wide_laws import untouched


@dataclass(frozen=True)
class Role:
    """What a group of launches is: the same kernel on all threads at one place of one phase.

    Attributes:
        stage: "forward" or "backward".
        kernel: name of the kernel; with " (adjoint)" where it is the generated adjoint.
        phase, place: where in the plan.
    """

    stage: str
    kernel: str
    phase: int
    place: int


@dataclass
class Note:
    """Launches of a role, and the shortest time [s] they took."""

    launches: list[Launch]
    seconds: float = float("inf")
    calls: int = 0


@dataclass
class Stopwatch:
    """Takes the place of a `Crew`.

    Args:
        crew: who does the work.
        stage: told by the caller.

    Attributes:
        spent: time [s] in launches since it was last set to zero.
    """

    crew: Crew
    stage: str = "forward"
    notes: dict[Role, Note] = field(default_factory=dict)
    spent: float = 0.0
    _split: dict[int, tuple[Plan, list[tuple[Role, Plan]]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Threads."""
        return self.crew.size

    def run(self, plan: Plan, rows: Sequence[Sequence[Any]] = ((),), halt: wp.array | None = None) -> None:
        """Run a plan, turn by turn and kernel by kernel."""
        if id(plan) not in self._split or self._split[id(plan)][0] is not plan:
            self._split[id(plan)] = (plan, list(self._parts(plan)))
        for row in rows:
            if halt is not None and halt.numpy()[0] < row[0]:
                return
            for role, part in self._split[id(plan)][1]:
                self._take(Role(self.stage, role.kernel, role.phase, role.place), part, row)

    def _take(self, role: Role, part: Plan, row: Sequence[Any]) -> None:
        began = time.perf_counter()
        self.crew.run(part, [row])
        taken = time.perf_counter() - began
        self.spent += taken
        note = self.notes.setdefault(role, Note(part.launches))
        note.seconds, note.calls, note.launches = min(note.seconds, taken), note.calls + 1, part.launches

    def _parts(self, plan: Plan) -> Any:
        for index, phase in enumerate(plan.phases):
            for place, lists in enumerate(together(phase)):
                name = next(kernel_name(launch) for mine in lists for launch in mine)
                yield Role(self.stage, name, index, place), Plan([lists], self.size, plan.columns)

    def forget(self) -> None:
        """Let plans go whose launches are not used any more."""
        self._split.clear()


def together(phase: Sequence[Sequence[Launch]]) -> Iterator[list[list[Launch]]]:
    """A phase in steps of one kernel each, on as many threads as come to it; every thread keeps its order."""
    left = [list(mine) for mine in phase]
    while any(left):
        fronts = [kernel_name(mine[0]) for mine in left if mine]
        # A kernel that another thread comes to later waits for it.
        later = {
            kernel_name(launch) for mine in left for launch in mine[1:] if kernel_name(launch) != kernel_name(mine[0])
        }
        chosen = next((name for name in fronts if name not in later), fronts[0])
        yield [[mine.pop(0)] if mine and kernel_name(mine[0]) == chosen else [] for mine in left]


def kernel_name(launch: Launch) -> str:
    """Name of what is launched."""
    name = launch.kernel.key.removesuffix("_f32").removesuffix("_f64")
    return f"{name} (adjoint)" if launch.adjoints is not None else name


def traffic(launch: Launch, particles: int, nodes: int, capacity: int) -> float:
    """Memory [bytes] that a launch must touch: each array once, as far as the launch reaches.

    An array of all particles counts with the rows of the launch, one of nodes with the launch's share of the nodes,
    and what is smaller counts not at all. Arrays that stand in for others count once.
    """
    labels, adjoints = list(launch.at), launch.adjoints
    unread = UNREAD | untouched(launch.kernel)
    arrays = [launch.values[label] for label in labels if label not in unread]
    arrays += [adjoints[label] for label in labels if label in adjoints] if adjoints else []
    # A kernel that loops over particles itself is launched once.
    rows, seen, total = launch.values.get("count", launch.dim), set(), 0.0
    of_nodes = not any(getattr(a, "shape", None) and a.shape[0] == particles for a in arrays)
    for array in arrays:
        if not hasattr(array, "ptr") or array.ptr in seen or not array.shape:
            continue
        seen.add(array.ptr)
        if array.shape[0] == particles:
            total += rows * array.strides[0]
        elif array.shape[0] == capacity:
            total += (min(rows, nodes) if of_nodes else nodes * rows / particles) * array.strides[0]
    return total


UNREAD = frozenset({"shift", "order"})
"""Arguments that only periodic grids, or failures, need."""
