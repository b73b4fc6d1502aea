"""Crews of threads: phases in order with barriers between them, awake and asleep, several at once."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warp as wp

from physim.crew import _AWAKE, _SEATS, Crew, Plan
from physim.launch import Launch

N = 6000
PATIENCE = 60.0
"""Seconds after which a run counts as hung."""


@wp.kernel(module="unique", enable_backward=False)
def mix(
    src: wp.array(dtype=wp.int64), dst: wp.array(dtype=wp.int64), first: int, turn: int, factor: wp.int64, again: int
):
    """From numbers that other threads wrote in the phase before; the order of two calls shows."""
    i = first + wp.tid()
    value = src[(i + turn) % src.shape[0]]
    for _ in range(again):
        value = value * wp.int64(3) + wp.int64(1)
    dst[i] = factor * dst[i] + value + wp.int64(i)


def in_time(work: Callable[[], Any]) -> Any:
    """The result of `work`, in a thread of its own so that a deadlock fails."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the crew hangs"
    value, error = found[0]
    if error is not None:
        raise error
    return value


def shares(threads: int, uneven: bool) -> list[tuple[int, int]]:
    """First and last number of each thread's share."""
    ends = np.linspace(0, N, threads + 1).astype(int)
    if uneven and threads > 1:
        ends[1:-1] = np.arange(1, threads)  # one has all the work: the others must wait for it
    return [(int(a), int(b)) for a, b in itertools.pairwise(ends)]


class Task:
    """A plan whose result depends on the order of everything in it, and what the result is."""

    def __init__(self, threads: int, phases: int = 40, seed: int = 1) -> None:
        draw = np.random.default_rng(seed)
        self.buffers = [wp.array(draw.integers(0, 2**40, N), dtype=wp.int64, device="cpu") for _ in range(2)]
        self.steps = [(int(draw.integers(1, N)), int(draw.integers(2, 99)), int(draw.integers(0, 3)))
                      for _ in range(phases)]  # fmt: skip
        lists = []
        for p, (turn, factor, again) in enumerate(self.steps):
            src, dst = self.buffers[p % 2], self.buffers[(p + 1) % 2]
            phase: list[list[Launch]] = [[] for _ in range(threads)]
            for t, (first, last) in enumerate(shares(threads, uneven=p % 3 == 1)):
                given = {"src": src, "dst": dst, "first": first, "again": again}
                for repeat in range(2):  # a list is done from its first launch to its last
                    extra = {"turn": turn + repeat, "factor": wp.int64(factor + repeat)}
                    phase[t].append(Launch(mix, last - first, "cpu", given | extra))
            lists.append(phase)
        lists.insert(3, [[] for _ in range(threads)])
        self.plan = Plan(lists, threads)

    def expected(self, runs: int) -> Iterator[list[np.ndarray]]:
        """Both buffers after each run, in one thread by numpy."""
        state = [b.numpy().copy() for b in self.buffers]
        index = np.arange(N)
        with np.errstate(over="ignore"):
            for _ in range(runs):
                for p, (turn, factor, again) in enumerate(self.steps):
                    src, dst = state[p % 2], state[(p + 1) % 2]
                    for repeat in range(2):
                        value = src[(index + turn + repeat) % N]
                        for _ in range(again):
                            value = value * 3 + 1
                        dst[:] = (factor + repeat) * dst + value + index
                yield [s.copy() for s in state]

    def check(self, crew: Crew, runs: int, pause: Callable[[int], None] = lambda k: None) -> None:
        """Run the plan several times and compare after each."""
        for k, wanted in enumerate(self.expected(runs)):
            pause(k)
            crew.run(self.plan)
            for buffer, numbers in zip(self.buffers, wanted, strict=True):
                assert np.array_equal(buffer.numpy(), numbers), f"run {k} went wrong"


def asleep(crew: Crew) -> bool:
    return not any(crew._sync[_SEATS + 8 * t + _AWAKE] for t in range(1, crew.size))


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_phases_run_in_order_behind_barriers(threads: int) -> None:
    in_time(lambda: Task(threads).check(Crew(threads), runs=30))


def test_a_crew_goes_on_after_its_threads_fell_asleep() -> None:
    crew, task = Crew(2), Task(2)

    def pause(k: int) -> None:
        if k == 1:
            time.sleep(0.5)
        if k in (2, 3, 6):
            wait_until(lambda: asleep(crew))

    in_time(lambda: task.check(crew, runs=8, pause=pause))


def test_pauses_about_as_long_as_threads_stay_awake() -> None:
    """Orders that arrive while a thread falls asleep, or just woke, are neither lost nor run twice."""
    crew, task = Crew(2), Task(2, phases=4)
    crew.run(Task(2, phases=1).plan)
    start = time.monotonic()
    wait_until(lambda: asleep(crew))
    stay = min(0.5, time.monotonic() - start)

    def pause(k: int) -> None:
        time.sleep(max(0.0, stay * (0.8 + 0.03 * k)))

    in_time(lambda: task.check(crew, runs=12, pause=pause))


def test_plans_take_turns_on_one_crew() -> None:
    crew, tasks = Crew(2), [Task(2, phases=p, seed=p) for p in (1, 7, 16)]

    def run() -> None:
        ways = [task.expected(12) for task in tasks]
        for k in range(36):
            task, wanted = tasks[k % 3], next(ways[k % 3])
            crew.run(task.plan)
            assert all(np.array_equal(b.numpy(), w) for b, w in zip(task.buffers, wanted, strict=True))

    in_time(run)


def test_a_plan_without_launches_does_nothing() -> None:
    for threads in (1, 2):
        crew, task = Crew(threads), Task(threads)
        in_time(lambda: [crew.run(Plan([], threads)), crew.run(Plan([[[]] * threads] * 3, threads))])
        in_time(lambda: task.check(crew, runs=2))


def test_an_empty_plan_before_another_does_not_run_that_twice() -> None:
    """Nobody waits at the end of an empty plan: a thread may not have seen it yet when the next one comes."""
    crew, task = Crew(2), Task(2, phases=3)
    in_time(lambda: task.check(crew, runs=200, pause=lambda k: [crew.run(Plan([[[], []]], 2)) for _ in range(3)][-1]))


def test_two_crews_at_once() -> None:
    tasks = [Task(2, seed=s) for s in (1, 2)]

    def run() -> None:
        errors: list[BaseException] = []

        def one(task: Task) -> None:
            try:
                task.check(Crew(2), runs=25)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=(task,), daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors

    in_time(run)


def test_an_error_between_two_runs_leaves_the_crew_usable() -> None:
    crew, task = Crew(2), Task(2)

    def run() -> None:
        with pytest.raises(AttributeError):
            crew.run(None)  # type: ignore[arg-type]
        task.check(crew, runs=3)

    in_time(run)


@pytest.mark.parametrize("sleepy", [False, True])
def test_threads_end_with_their_crew(sleepy: bool) -> None:
    before = set(threading.enumerate())

    def use() -> list[threading.Thread]:
        crew = Crew(3)
        crew.run(Task(3, phases=2).plan)
        if sleepy:
            wait_until(lambda: asleep(crew))
        return [t for t in threading.enumerate() if t not in before]

    mine = use()
    assert len(mine) == 2 and all(t.daemon for t in mine)
    gc.collect()
    wait_until(lambda: not any(t.is_alive() for t in mine))


def test_a_program_ends_while_threads_are_awake() -> None:
    text = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    text += "from test_crew import Crew, Task\ncrew, task = Crew(3), Task(3)\ntask.check(crew, runs=3)\nprint('done')\n"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE)
    assert found.returncode == 0 and "done" in found.stdout, found.stderr
