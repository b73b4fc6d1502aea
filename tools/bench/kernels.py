"""Where the time goes: every kernel of a substep, forward and backward, in ns per particle, and what bounds it.

The kernels run one by one, in their order, inside real rollouts; told is the shortest time of each. Bounds come from
three measurements in the same run: memory bandwidth (a STREAM triad), multiply-adds in registers, and launches of an
empty kernel. Bytes are those that a launch must touch, each array once; flops are counted by hand from the source
(useful lanes only, see FLOPS), so a kernel without a count has none. A kernel that takes more than 2.5 times as long as
each of its bounds is told to be bound by latency: chains of dependent instructions, shuffles, scalar code. One that is
faster than its bytes at the bandwidth of the memory finds them in the caches.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCATTER = 60 + 24 + 36 + 3 * 24 + 9 * 49
"""Weights; affine rows; rows by weights; per layer; per row of nodes: see `physim/solvers/mpm/native.py`."""
GATHER = 60 + 9 * 49 + 3 * 73 + 80
PULL = GATHER + 21 + 24 + 9 * 49 + 3 * 168 + 69
POLAR = 14 + 3 * 95
"""Three Newton steps of a polar decomposition near a rotation."""
FLOPS = {
    "p2g": SCATTER + 35,
    "g2p": GATHER + 95,
    "g2p_only": GATHER + 23,
    "g2p_adjoint": SCATTER + PULL + 174,
    "g2p_adjoint_only": SCATTER + PULL + 100,
    "p2g_adjoint": PULL + 80,
}
LAWS = {
    "jelly": {"stress": 86 + POLAR, "stress_adjoint": 86 + POLAR + POLAR + 480},
    "water": {"stress": 20, "stress_adjoint": 90, "project": 110, "project_adjoint": 320},
}
LATENCY = 0.4
"""Share of the measured time below which a bound does not explain it."""


def measure(material: str, particles: int, threads: int, substeps: int, repeats: int) -> dict[str, Any]:
    """Rows of one material and number of threads, and the times of whole substeps."""
    import torch

    from physim.speed import machine
    from physim.speed.cube import Cube, lattice
    from tools.bench.stopwatch import Stopwatch, traffic

    torch.set_num_threads(threads)
    cube = Cube(material, lattice(particles), threads=threads)
    whole = {
        "forward": machine.best(lambda: cube.forward(substeps), within=1.0) / substeps,
        "both": machine.best(lambda: cube.gradient(substeps), within=2.0) / substeps,
    }
    work = cube.solver._workspace(cube.state)
    watch = work.crew = Stopwatch(work.crew)
    beside = []
    for _ in range(repeats):
        watch.stage = "forward"
        cube.forward(substeps)
        watch.stage, watch.spent, began = "forward, kept", 0.0, time.perf_counter()
        with going_back(watch):
            cube.gradient(substeps)
        beside.append((time.perf_counter() - began - watch.spent) / substeps)
        watch.forget()
    whole["beside"] = min(beside)
    limits = {
        "bandwidth": machine.bandwidth(threads),
        "multiply_adds": machine.multiply_adds(threads),
        "launch": machine.launch_cost(threads),
    }
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for role, note in watch.notes.items():
        if role.stage == "forward, kept":
            continue
        row = rows.setdefault(
            (role.stage, role.kernel),
            {"stage": role.stage, "kernel": role.kernel, "ns": 0.0, "bytes": 0.0, "launches": 0},
        )
        row["ns"] += 1e9 * note.seconds / cube.count
        row["bytes"] += (
            sum(traffic(a, cube.count, work.layout.nodes, work.capacity) for a in note.launches) / cube.count
        )
        row["launches"] += len(note.launches)
    for row in rows.values():
        judge(row, material, cube.count, limits)
    found = {
        "material": material,
        "particles": cube.count,
        "threads": threads,
        "nodes": work.layout.nodes,
        "substeps": substeps,
    }
    return found | {
        "limits": limits,
        "rows": list(rows.values()),
        "whole": {k: 1e9 * v / cube.count for k, v in whole.items()},
    }


class going_back:
    """Tells a stopwatch when the backward pass begins."""

    def __init__(self, watch: Any) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        import torch

        self._backward = torch.Tensor.backward
        watch, backward = self._watch, self._backward

        def noted(tensor: Any, *args: Any, **options: Any) -> Any:
            watch.stage = "backward"
            return backward(tensor, *args, **options)

        torch.Tensor.backward = noted

    def __exit__(self, *_: object) -> None:
        import torch

        torch.Tensor.backward = self._backward


def judge(row: dict[str, Any], material: str, particles: int, limits: dict[str, float]) -> None:
    """Fill in flops, rates, and what bounds the kernel."""
    flops = FLOPS.get(row["kernel"], LAWS[material].get(row["kernel"]))
    row["flops"] = flops
    least = {
        "bytes": row["bytes"] / limits["bandwidth"],
        "flops": (flops or 0.0) / limits["multiply_adds"],
        "launch": row["launches"] * limits["launch"] / particles,
    }
    row["least_ns"] = least
    name = max(least, key=lambda n: least[n])
    row["share_of_bound"] = least[name] / row["ns"]
    if row["share_of_bound"] < LATENCY:
        row["bound"] = "latency" if flops else "latency, or flops (not counted)"
    else:
        row["bound"] = f"{name}, from cache" if name == "bytes" and row["share_of_bound"] > 1 else name


def table(found: dict[str, Any]) -> Iterator[str]:
    """One material and number of threads, as text."""
    limits, rows, whole = found["limits"], found["rows"], found["whole"]
    s = "s" * (found["threads"] > 1)
    counts = f"{found['particles']:,} particles, {found['nodes']:,} nodes"
    yield f"{found['material']}, {counts}, {found['threads']} thread{s}"
    yield (
        f"triad {limits['bandwidth']:.1f} GB/s, multiply-adds {limits['multiply_adds']:.0f} GFLOP/s, "
        f"launch {limits['launch']:.0f} ns"
    )
    yield (
        f"{'':9} {'kernel':18} {'ns':>6} {'share':>6} {'bytes':>6} {'GB/s':>6} {'flops':>6} {'GFLOP/s':>8} "
        f"{'launches':>9}  bound by (its share of the time)"
    )
    for stage in ("forward", "backward"):
        mine = [r for r in rows if r["stage"] == stage]
        total = sum(r["ns"] for r in mine)
        for r in mine:
            flops, rate = ("-", "-") if r["flops"] is None else (f"{r['flops']:.0f}", f"{r['flops'] / r['ns']:.1f}")
            yield (
                f"{stage:9} {r['kernel']:18} {r['ns']:6.1f} {100 * r['ns'] / total:5.0f}% {r['bytes']:6.0f} "
                f"{r['bytes'] / r['ns']:6.1f} {flops:>6} {rate:>8} {r['launches']:9d}  {r['bound']} "
                f"({100 * r['share_of_bound']:.0f} %)"
            )
        yield f"{stage:9} {'sum of kernels':18} {total:6.1f}"
    yield (
        f"whole substep, as usual: forward {whole['forward']:.1f} ns, forward + backward {whole['both']:.1f} ns; "
        f"beside the kernels (sorting, checks, Python, torch) {whole['beside']:.1f} ns of the latter, "
        f"in rollouts of {found['substeps']} substeps"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.kernels", description=__doc__)
    add = parser.add_argument
    add("--materials", nargs="+", default=["jelly", "water"], choices=["jelly", "water"])
    add("--particles", type=int, default=64_000, help="rounded to a cube")
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--substeps", type=int, default=20)
    add("--repeats", type=int, default=5, help="rollouts, of whose substeps the shortest times are told")
    add("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    options = parser.parse_args()
    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.report import header, machine

    quiet_warp()
    told = machine()
    sys.stdout.write(header(told) + "\n")
    made = []
    for threads in options.threads:
        for material in options.materials:
            made.append(measure(material, options.particles, threads, options.substeps, options.repeats))
            sys.stdout.write("\n" + "\n".join(table(made[-1])) + "\n")
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps({"machine": told, "tables": made}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
