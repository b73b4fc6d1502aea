"""Threads that run lists of launches side by side, in phases with a barrier between them, again and again.

Python's threads cannot: each launch needs the global lock for a moment, and a sleeping thread takes up to 0.1 ms to
wake, as long as a phase lasts. So the lists are written down once as addresses, and a small native loop, itself a
kernel, runs them on every thread; between lists the threads wait at a counter, politely after a while. A plan is
repeated without Python too: a table has one row per turn with the arguments that change, and each thread writes them
into its own launches before the turn begins.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import warp as wp

from physim.launch import Launch

# Words of the shared memory, in cache lines of eight: arrivals at barriers; orders given, whether somebody slept then,
# the table, its width, its rows, and what may end it early; and for each thread its operations, their number, whether
# it is awake, and the last order it has seen. An operation is a barrier (0), an argument to write (1: address, column,
# bytes), or a launch.
_WAIT = """
typedef void (*give)();
typedef void (*pause)(unsigned);
typedef void (*plain)(void*, void*);
typedef void (*reverse)(void*, void*, void*);
long long* s = (long long*)sync.data;
auto hold = [&](long long* counter, long long least, long long naps) -> bool {
    for (long long spins = 0; __atomic_load_n(counter, __ATOMIC_SEQ_CST) < least; ++spins) {
        if (spins < 4000) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else if (spins < 6000 && yielder)
            ((give)yielder)();
        else if (naps > 0 && spins >= 6000 + naps)
            return false;
        else if (sleeper)
            ((pause)sleeper)(20);
    }
    return true;
};
auto meet = [&]() {
    if (threads == 1) return;
    const long long arrived = __atomic_fetch_add(s, 1, __ATOMIC_SEQ_CST);
    hold(s, (arrived / threads + 1) * threads, 0);
};
auto work = [&](const long long* ops, long long count) {
    const long long* row = (const long long*)s[10];
    const long long width = s[11], rows = s[12];
    const int* halt = (const int*)s[13];
    for (long long turn = 0; turn < rows; ++turn, row += width) {
        // Nobody writes it between the end of a turn and this look at it, so that all threads see the same.
        if (halt && __atomic_load_n(halt, __ATOMIC_SEQ_CST) < row[0]) {
            meet();  // or the caller would be gone before the others have seen this order
            return;
        }
        const long long* op = ops;
        for (long long i = 0; i < count; ++i, op += 4) {
            if (op[0] == 0)
                meet();
            else if (op[0] == 1) {
                if (op[3] == 8)
                    *(long long*)op[1] = row[op[2]];
                else
                    *(int*)op[1] = (int)row[op[2]];
            } else if (op[3] == 0)
                ((plain)op[0])((void*)op[1], (void*)op[2]);
            else
                ((reverse)op[0])((void*)op[1], (void*)op[2], (void*)op[3]);
        }
    }
};
"""
_ASLEEP, _TABLE, _SEATS, _AWAKE = 9, slice(10, 14), 16, 2
_LEAD = (
    _WAIT
    + """
if (!posted) {
    for (int t = 1; t < threads; ++t) {
        s[16 + 8 * t] = orders.data[2 * t];
        s[17 + 8 * t] = orders.data[2 * t + 1];
    }
    __atomic_fetch_add(s + 8, 1, __ATOMIC_SEQ_CST);
    s[9] = 0;
    for (int t = 1; t < threads; ++t)
        if (!__atomic_load_n(s + 18 + 8 * t, __ATOMIC_SEQ_CST)) s[9] = 1;
    if (s[9]) return;  // somebody must be woken first
}
work((const long long*)orders.data[0], orders.data[1]);
"""
)
_FOLLOW = (
    _WAIT
    + """
long long* mine = s + 16 + 8 * thread;
__atomic_store_n(mine + 2, 1, __ATOMIC_SEQ_CST);
for (;;) {
    if (!hold(s + 8, mine[3] + 1, 3000)) {
        __atomic_store_n(mine + 2, 0, __ATOMIC_SEQ_CST);
        // An order may have come before anyone could see that this thread is about to sleep.
        if (__atomic_load_n(s + 8, __ATOMIC_SEQ_CST) <= mine[3]) return;
        __atomic_store_n(mine + 2, 1, __ATOMIC_SEQ_CST);
    }
    ++mine[3];
    work((const long long*)mine[0], mine[1]);
}
"""
)


@wp.func_native(_LEAD)
def _lead_native(
    sync: wp.array(dtype=wp.int64),
    orders: wp.array(dtype=wp.int64),
    posted: int,
    threads: int,
    yielder: wp.int64,
    sleeper: wp.int64,
): ...


@wp.func_native(_FOLLOW)
def _follow_native(sync: wp.array(dtype=wp.int64), thread: int, threads: int, yielder: wp.int64, sleeper: wp.int64): ...


@cache
def _kernels() -> tuple[wp.Kernel, wp.Kernel]:
    module = wp.get_module("physim_crew")

    def lead(
        sync: wp.array(dtype=wp.int64),
        orders: wp.array(dtype=wp.int64),
        posted: int,
        threads: int,
        yielder: wp.int64,
        sleeper: wp.int64,
    ):
        _lead_native(sync, orders, posted, threads, yielder, sleeper)

    def follow(sync: wp.array(dtype=wp.int64), thread: int, threads: int, yielder: wp.int64, sleeper: wp.int64):
        _follow_native(sync, thread, threads, yielder, sleeper)

    return tuple(wp.kernel(f, module=module, enable_backward=False) for f in (lead, follow))  # type: ignore[return-value]


class Plan:
    """Phases of launches: `phases[p][t]` are those of phase p on thread t.

    Args:
        phases: the launches; all of one device.
        threads: number of threads.
        columns: names of the arguments that each turn gives anew, in the order of the table's columns. A cotangent that
            a launch's generated adjoint takes has the argument's name after `adj_`.
    """

    def __init__(self, phases: Sequence[Sequence[Sequence[Launch]]], threads: int, columns: Sequence[str] = ()) -> None:
        self.phases = [p for p in phases if any(p)]
        self.columns = tuple(columns)
        self.launches = [launch for phase in self.phases for mine in phase for launch in mine]
        at = {name: i for i, name in enumerate(columns)}
        self.orders: Any = None
        if not all(launch.call[0] for launch in self.launches):
            self._changes = [(launch, *change) for launch in self.launches for change in launch.changes(at)]
            return
        self._ops: list[np.ndarray] = []
        for t in range(threads):
            mine = [phase[t] if t < len(phase) else [] for phase in self.phases]
            calls = []
            for launch in dict.fromkeys(launch for some in mine for launch in some):
                for index, adjoint, column in launch.changes(at):
                    address, size = launch.spot(index, adjoint)
                    calls.append((1, address, column, size))
            for some in mine:
                calls += [*(launch.call for launch in some), (0, 0, 0, 0)]
            self._ops.append(np.array(calls, dtype=np.int64).reshape(-1, 4))
        orders = np.array([[ops.ctypes.data, len(ops)] for ops in self._ops], dtype=np.int64).reshape(-1)
        self.orders = wp.array(orders, dtype=wp.int64, device="cpu")

    def launch(self, row: Sequence[Any]) -> None:
        """One turn from Python, where native code cannot repeat the launches."""
        for launch, index, adjoint, column in self._changes:
            launch.put(index, row[column], adjoint)
        for launch in self.launches:
            launch()


class Crew:
    """Threads for plans; the caller is one of them. Without orders for a tenth of a second the others sleep.

    Args:
        size: threads, the calling one included.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._sync = np.zeros(_SEATS + 8 * size, dtype=np.int64)
        shared: dict[str, Any] = {"threads": size, "posted": 0, "yielder": wp.int64(_address("sched_yield"))}
        shared["sleeper"] = wp.int64(_address("usleep"))
        shared["sync"] = wp.array(self._sync, dtype=wp.int64, device="cpu", copy=False)
        shared["orders"] = wp.zeros(2 * size, dtype=wp.int64, device="cpu")
        lead, follow = _kernels()
        self._lead = Launch(lead, 1, "cpu", shared)
        self._todo: list[queue.SimpleQueue[bool]] = []
        for t in range(1, size):
            todo: queue.SimpleQueue[bool] = queue.SimpleQueue()
            serve = Launch(follow, 1, "cpu", shared | {"thread": t})
            threading.Thread(target=_serve, args=(todo, serve), daemon=True).start()
            self._todo.append(todo)
        weakref.finalize(self, _dismiss, self._todo)

    def run(self, plan: Plan, rows: Sequence[Sequence[Any]] = ((),), halt: wp.array | None = None) -> None:
        """Run a plan once for each row of its columns, and come back when all is done.

        Args:
            plan: what to run.
            rows: per turn, arguments in the order of the plan's columns: for native launches as words of 64 bits
                (addresses of arrays, integers, the bits of a real), for others as `Launch.put` takes them.
            halt: one int32; when it is below the first column of a row, that turn and those after it are left out.
                Native launches only.
        """
        if plan.orders is None:
            for row in rows:
                plan.launch(row)
            return
        if not plan.launches:
            return
        table = np.array(rows, dtype=np.int64)
        self._sync[_TABLE] = table.ctypes.data, table.shape[1], len(table), 0 if halt is None else halt.ptr
        self._lead.set(orders=plan.orders, posted=0)
        self._lead()
        if self._sync[_ASLEEP]:
            for t, todo in enumerate(self._todo, start=1):
                if not self._sync[_SEATS + 8 * t + _AWAKE]:
                    todo.put(True)
            self._lead.set(posted=1)
            self._lead()


def _address(name: str) -> int:
    """Address of a function of the system's library; 0 where there is none."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        return 0


def _serve(todo: queue.SimpleQueue[bool], serve: Launch) -> None:
    while todo.get():
        serve()


def _dismiss(todos: list[queue.SimpleQueue[bool]]) -> None:
    for todo in todos:
        todo.put(False)
