"""How far one machine is from another, why, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from physim.speed.survey import KINDS

CLOSE = 0.8
"""A ratio from which on a machine counts as as fast."""
OURS = 0.9
"""Share of the cores' time from which on a machine counts as idle."""


def most(threads: dict[str, Any]) -> str:
    """The largest number of threads in a table."""
    return max(threads, key=int)


def ratio(found: dict[str, Any], other: dict[str, Any], threads: str) -> float:
    """Geometric mean of the ratios of speed, on one thread (`"1"`) or on the most that each has."""
    logs = []
    for material, table in found["rates"].items():
        theirs = other["rates"].get(material, {})
        if not theirs:
            continue
        mine, known = (t["1"] if threads == "1" else t[most(t)] for t in (table, theirs))
        logs += [math.log(mine[k] / known[k]) for k in mine if k in known]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def table(found: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """The figures beside those of the other machine."""
    yield f"compared with {other['processor']} ({', '.join(sorted(other['bandwidth_gb_s'], key=int))} threads)"
    yield f"{'':38}{'this machine':>14}{'compared':>12}{'ratio':>8}"
    for material, rows in found["rates"].items():
        theirs = other["rates"].get(material, {})
        for count, kinds in rows.items():
            against = count if count in theirs else most(theirs) if theirs else ""
            for kind, rate in kinds.items():
                known = theirs.get(against, {}).get(kind)
                name = f"{material}, {KINDS[kind]}, {_threads(count)}"
                yield _row(name, rate, known, "" if against in (count, "") else f" on {against}")
    for key, name in (("bandwidth_gb_s", "memory, GB/s"), ("multiply_add_gflop_s", "multiply-adds, GFLOP/s")):
        for count, value in found[key].items():
            yield _row(f"{name}, {_threads(count)}", value, other[key].get(count), "")
    yield f"speeds are million particle-substeps per second of {found['particles']:,} particles, best of a few samples"


def causes(found: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, str]]:
    """What makes this machine slower than the other, the gravest first, each with its advice.

    Where other programs are at work, measured limits are not the machine's.
    """
    told: list[tuple[str, str]] = []
    for what in found["slowed"]:
        told.append((what, "Remove that setting: it costs more than anything else here."))
    shares = found["share_of_cores"]
    count = min(shares, key=lambda t: shares[t])
    busy = shares[count] < OURS
    if busy:
        load = "" if found["load"] is None else f", load average {found['load']:.1f}"
        whose = "core that one thread works on" if count == "1" else f"cores that {count} threads work on"
        what = f"other programs take {100 * (1 - shares[count]):.0f} % of the {whose}{load}"
        told.append((what, "Stop them, or measure again when the machine is idle."))
    sets = set(found["vector_sets"])
    if sets and not sets & {"avx2", "avx512f", "asimd", "sve"}:
        told.append(
            ("the processor has no wide vector instructions (AVX2)", "A processor of the last ten years is faster.")
        )
    core = _ratio(found, other, "multiply_add_gflop_s", "1")
    if core < CLOSE and not busy:
        what = f"a core does {core:.2f} times as many multiply-adds per second"
        told.append((what, "Only a faster core, or more of them, helps."))
    memory = _ratio(found, other, "bandwidth_gb_s", most(found["bandwidth_gb_s"]))
    if memory < CLOSE and not busy:
        what = f"memory is {memory:.2f} times as fast"
        told.append((what, "Runs with many particles will be held up by it: a smaller memory budget helps a little."))
    mine, theirs = (int(most(t["bandwidth_gb_s"])) for t in (found, other))
    if mine < theirs:
        told.append((f"{_threads(str(mine))} instead of {theirs}", "Give this process more cores if you can."))
    if found["torch_threads"] < mine:
        what = f"torch is set to {_threads(str(found['torch_threads']))} of {mine}, and the solver follows it"
        told.append((what, f"Call torch.set_num_threads({mine}), or set OMP_NUM_THREADS={mine}."))
    return told


def verdict(found: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """How far, why, and a sentence of advice."""
    one, all_ = ratio(found, other, "1"), ratio(found, other, "most")
    lines = [f"one thread runs at {one:.2f} times the speed compared with, all threads at {all_:.2f} times"]
    why = causes(found, other)
    lines += [f"why: {what}" for what, _ in why]
    slow = min(one, all_) < CLOSE
    if why and (slow or found["slowed"] or found["torch_threads"] < int(most(found["bandwidth_gb_s"]))):
        lines.append(f"advice: {why[0][1]}")
    elif slow:
        lines.append(
            "advice: Nothing that was measured explains it; run again, and report it with the output of --json."
        )
    else:
        lines.append("advice: This machine is as fast as it should be; nothing to do.")
    return lines


def _threads(count: str) -> str:
    return f"{count} thread{'s' * (count != '1')}"


def _ratio(found: dict[str, Any], other: dict[str, Any], key: str, threads: str) -> float:
    known = other[key].get(threads)
    return found[key][threads] / known if known else math.inf


def _row(name: str, value: float, known: float | None, note: str) -> str:
    if known is None:
        return f"{name:38}{value:14.3g}{'-':>12}{'-':>8}"
    return f"{name:38}{value:14.3g}{known:12.3g}{value / known:8.2f}{note}"
