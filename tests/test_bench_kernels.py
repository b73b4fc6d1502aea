"""The table of kernels holds every launch of a substep, and timing them one by one changes no result."""

from __future__ import annotations

import pytest
import torch

from physim.speed.cube import Cube, lattice
from tools.bench.kernels import judge, measure, table
from tools.bench.stopwatch import Stopwatch, together


@pytest.mark.parametrize("material", ["jelly", "water"])
@pytest.mark.parametrize("threads", [1, 2])
def test_kernel_by_kernel_gives_the_same_bits(material: str, threads: int) -> None:
    found = []
    for watched in (False, True):
        cube = Cube(material, lattice(4096), threads=threads)
        if watched:
            work = cube.solver._workspace(cube.state)
            work.crew = Stopwatch(work.crew)
        found.append(cube.gradient(6))
    assert found[0] == found[1]


def test_a_table_has_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    from physim.speed import machine

    best, before = machine.best, torch.get_num_threads()
    monkeypatch.setattr(machine, "best", lambda work, **_: best(work, within=0.0))
    found = measure("water", 512, 1, 3, 1)
    torch.set_num_threads(before)
    assert {r["stage"] for r in found["rows"]} == {"forward", "backward"}
    assert all(r["ns"] > 0 and r["bytes"] >= 0 and r["bound"] for r in found["rows"])
    lines = list(table(found))
    assert all(any(r["kernel"] in line for line in lines) for r in found["rows"])


def test_threads_that_are_at_different_kernels_meet_at_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.stopwatch.kernel_name", lambda launch: launch)
    steps = list(together([["sum", "a", "b", "b"], ["a", "b"], []]))
    assert steps == [[["sum"], [], []], [["a"], ["a"], []], [["b"], ["b"], []], [["b"], [], []]]
    crossed = list(together([["a", "b"], ["b", "a"]]))
    assert [[mine for step in crossed for mine in step[t]] for t in (0, 1)] == [["a", "b"], ["b", "a"]]


def test_bounds_are_named() -> None:
    limits = {"bandwidth": 10.0, "multiply_adds": 100.0, "launch": 1000.0}
    rows = [
        ({"kernel": "p2g", "ns": 8.0, "bytes": 10.0, "launches": 1}, "flops"),
        ({"kernel": "p2g", "ns": 100.0, "bytes": 10.0, "launches": 1}, "latency"),
        ({"kernel": "clear", "ns": 2.0, "bytes": 10.0, "launches": 1}, "bytes"),
        ({"kernel": "clear", "ns": 0.5, "bytes": 10.0, "launches": 1}, "bytes, from cache"),
        ({"kernel": "clear", "ns": 2.0, "bytes": 0.0, "launches": 1}, "launch"),
    ]
    for row, bound in rows:
        judge(row, "jelly", 1000, limits)
        assert row["bound"] == bound
