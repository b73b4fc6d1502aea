"""Limits of this machine: memory bandwidth, multiply-adds, and the cost of a launch."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warp as wp

from physim.bridge import to_warp
from physim.crew import Crew, Plan
from physim.launch import Launch

CHAINS = 10
"""Independent multiply-adds at a time: more than units times latency of common processors."""

_MULTIPLY_ADD = """
typedef float lanes __attribute__((vector_size({BYTES}), aligned(4)));
lanes a[10];
const lanes f = lanes{{}} + factor, g = lanes{{}} + (1 - factor);
for (int c = 0; c < 10; ++c) a[c] = lanes{{}} + 0.1f * c;
for (int i = 0; i < count; ++i) {{
#pragma clang loop unroll(full)
    for (int c = 0; c < 10; ++c) a[c] = a[c] * f + g;
}}
lanes s = {{}};
for (int c = 0; c < 10; ++c) s = s + a[c];
float total = 0;
for (int l = 0; l < {BYTES} / 4; ++l) total += s[l];
out.data[0] = total;
"""


@cache
def _multiply_add(width: int) -> wp.Kernel:
    """A kernel of chains of multiply-adds on registers of `width` bytes."""

    def chains(factor: float, count: int, out: wp.array(dtype=float)): ...  # type: ignore[valid-type]

    chains.__name__ = chains.__qualname__ = f"chains_{width}"
    native = wp.func_native(_MULTIPLY_ADD.format(BYTES=width))(chains)

    def multiply_add(factor: float, count: int, out: wp.array(dtype=float)):  # type: ignore[valid-type]
        native(factor, count, out)

    multiply_add.__name__ = multiply_add.__qualname__ = f"multiply_add_{width}"
    return wp.kernel(multiply_add, module=wp.get_module(f"physim_speed_{width}"), enable_backward=False)  # type: ignore[return-value]


@cache
def _nothing() -> wp.Kernel:
    def nothing(count: int):
        return

    return wp.kernel(nothing, module=wp.get_module("physim_speed"), enable_backward=False)  # type: ignore[return-value]


def best(work: Callable[[], Any], *, within: float = 0.5, most: int = 200) -> float:
    """The shortest time [s] of runs that take about `within` [s] altogether, after one that does not count.

    The shortest of many short runs is the least disturbed one, even where other programs want the same core.
    """
    work()
    found: list[float] = []
    while len(found) < 2 or (sum(found) < within and len(found) < most):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def bandwidth(threads: int, *, megabytes: int = 64, within: float = 0.4) -> float:
    """Memory bandwidth [GB/s] of a STREAM triad, a = b + s c on arrays of float32, counting three arrays.

    It goes through arrays far larger than the caches in pieces of a megabyte, and tells the speed that a quarter of the
    pieces reach: others' work on the same cores slows down single pieces, not all.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = [torch.full((megabytes * 2**18,), float(i)) for i in range(3)]
        pieces = list(zip(*(t.split(threads * 2**18) for t in whole), strict=True))
        times: list[float] = []
        until = time.perf_counter() + within
        while not times or time.perf_counter() < until:
            for a, b, c in pieces:
                began = time.perf_counter()
                torch.add(b, c, alpha=0.5, out=a)
                times.append((time.perf_counter() - began) / a.numel())
    finally:
        torch.set_num_threads(before)
    return 12.0 / float(np.quantile(times, 0.25)) / 1e9


def multiply_adds(threads: int, *, count: int = 200_000) -> float:
    """Arithmetic [GFLOP/s] of independent multiply-adds in float32, the best of three register widths."""
    crew = Crew(threads)
    rates = []
    for width in (16, 32, 64):
        outs = [to_warp(torch.zeros(16), wp.float32) for _ in range(threads)]
        lists = [[Launch(_multiply_add(width), 1, "cpu", {"factor": 0.9, "count": count, "out": o})] for o in outs]
        plan = Plan([lists], threads)
        seconds = best(lambda p=plan: crew.run(p), within=0.2)
        rates.append(2 * CHAINS * (width // 4) * count * threads / seconds / 1e9)
    return max(rates)


def launch_cost(threads: int) -> float:
    """Time [ns] of one launch of an empty kernel in a list of a thousand."""
    crew = Crew(threads)
    lists = [[Launch(_nothing(), 1, "cpu", {"count": 0}) for _ in range(1000)] for _ in range(threads)]
    plan = Plan([lists], threads)
    return best(lambda: crew.run(plan), within=0.05) / 1000 * 1e9


def barrier_cost(threads: int) -> float:
    """Time [ns] of one phase of an empty launch per thread, in a plan of a thousand; one thread has no barriers."""
    crew = Crew(threads)
    lists = [[Launch(_nothing(), 1, "cpu", {"count": 0})] for _ in range(threads)]
    plan = Plan([lists] * 1000, threads)
    return best(lambda: crew.run(plan), within=0.05) / 1000 * 1e9


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Processes that wanted a core in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processor() -> tuple[str, frozenset[str]]:
    """Name of the processor, and the instruction sets that it tells of (Linux only)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {k.strip(): v.strip() for k, v in told.items()}
    name = named.get("model name") or platform.processor() or platform.machine()
    return name, frozenset((named.get("flags") or named.get("Features") or "").split())


def slowed() -> list[str]:
    """Settings of Warp that make kernels slow."""
    found = []
    if wp.config.mode != "release":
        found.append(f"Warp compiles kernels in '{wp.config.mode}' mode")
    if getattr(wp.config, "verify_fp", False):
        found.append("Warp checks every number (verify_fp)")
    level = getattr(wp.config, "optimization_level", None)
    if level is not None and level < 2:
        found.append(f"Warp optimises at level {level}")
    return found


def share_of_cores(work: Callable[[], Any], threads: int) -> float:
    """The share of its threads' time that this process gets while it works; less than 1 on a busy machine."""
    began, used = time.perf_counter(), time.process_time()
    work()
    share = (time.process_time() - used) / (time.perf_counter() - began) / threads
    return float(np.clip(share, 0.0, 1.0))
