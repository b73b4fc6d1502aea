"""Cost against the size of the grid, particles, substeps, worlds and threads: `python -m tools.bench.scale`.

The work is a cube of jelly in free flight, forward, and forward with gradients; told is the best of a few runs, in ns
per particle and substep. Every run begins a rollout: what that costs by itself shows where substeps are few.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.bench.scale_plot import plot

AXES = ("box", "particles", "substeps", "worlds", "threads")
Row = dict[str, Any]


class Bench:
    """Rows of each axis.

    Args:
        threads: CPU threads, where they are not what is varied.
        quick: small sizes only, for a test.
        repeats: runs, of which the best is told.
        tell: called with what is measured next.
    """

    def __init__(self, threads: int, *, quick: bool, repeats: int, tell: Callable[[str], None]) -> None:
        self.threads, self.quick, self.repeats, self.tell = threads, quick, repeats, tell

    def measure(self, work: Callable[[], Any]) -> float:
        """The shortest time [s] of some runs after a first one, which is told if it alone takes a minute."""
        times = []
        for _ in range(self.repeats + 1):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
            if times[0] > 60:
                break
        return min(times[1:] or times)

    def row(self, axis: str, label: str, cube: Any, substeps: int, threads: int, memory: str = "1000 TiB") -> Row:
        """Time of one size."""
        import torch

        torch.set_num_threads(threads)
        self.tell(f"{axis}: {label}")
        per = 1e9 / (cube.count * substeps)
        found: Row = {"axis": axis, "label": label, "particles": cube.count, "substeps": substeps, "threads": threads}
        found["forward_ns"] = per * self.measure(lambda: cube.forward(substeps))
        found["gradient_ns"] = per * self.measure(lambda: cube.gradient(substeps, memory))
        found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return found

    def box(self) -> Iterator[Row]:
        """8,000 particles in ever larger grids, and two halves at opposite corners of the largest."""
        import torch

        from physim.solvers.mpm.layout import Layout
        from physim.speed.cube import DX, Cube, lattice

        x = lattice(512 if self.quick else 8000)
        sizes = (32, 64) if self.quick else (32, 128, 512, 1024)
        substeps = 4 if self.quick else 50
        half, corner = lattice(len(x) // 2), (sizes[-1] / 2 - 12) * DX
        apart = torch.cat([half - corner, half + corner])
        for nodes, at, label in [*((n, x, f"{n}^3") for n in sizes), (sizes[-1], apart, f"{sizes[-1]}^3, two bodies")]:
            cube = Cube("jelly", at, nodes=nodes, threads=self.threads)
            row = self.row("box", label, cube, substeps, self.threads) | {"nodes": nodes}
            ranges, grid, start = [(0, cube.count)], cube.solver.model.grid, cube.state.x
            torch.set_num_threads(1)  # as inside a rollout
            row["layout_ms"] = 1e3 * self.measure(lambda s=start, g=grid, r=ranges: Layout(s, None, r, g))
            row["active_nodes"] = Layout(start, None, ranges, grid).nodes
            yield row

    def particles(self) -> Iterator[Row]:
        """From 8,000 to a million particles; memory is the largest resident size until then."""
        from physim.speed.cube import Cube, lattice

        for count in (216, 512) if self.quick else (8000, 64_000, 512_000, 1_000_000):
            substeps = 4 if self.quick else max(5, min(50, 2_000_000 // count))
            cube = Cube("jelly", lattice(count), threads=self.threads)
            yield self.row("particles", f"{cube.count:,}", cube, substeps, self.threads)

    def substeps(self) -> Iterator[Row]:
        """Longer and longer rollouts of 8,000 particles with the memory that "auto" gives."""
        from physim.sim.rollout import rollout_memory
        from physim.speed.cube import DT, Cube, lattice

        for steps in (3, 6) if self.quick else (5, 20, 100, 500, 2000):
            cube = Cube(
                "jelly", lattice(512 if self.quick else 8000), nodes=32 if self.quick else 96, threads=self.threads
            )
            plan = rollout_memory(cube.solver, cube.state, dt=DT, steps=steps, every=steps)
            row = self.row("substeps", f"{steps:,}", cube, steps, self.threads, "auto")
            yield row | {"passes": plan.passes, "bound_mib": plan.bytes / 2**20}

    def worlds(self) -> Iterator[Row]:
        """Copies of a scene of 2,000 particles in one launch."""
        from physim.speed.cube import Cube, lattice

        for count in (1, 2) if self.quick else (1, 8, 64, 256):
            substeps = 4 if self.quick else 20
            cube = Cube("jelly", lattice(216 if self.quick else 2000), threads=self.threads, worlds=count)
            row = self.row("worlds", f"{count}", cube, substeps, self.threads) | {"worlds": count}
            for kind in ("forward", "gradient"):
                row[f"{kind}_us_per_world"] = row[f"{kind}_ns"] * cube.count / count / 1e3
            yield row

    def threads_(self) -> Iterator[Row]:
        """64,000 particles on more and more threads."""
        from physim.speed.cube import Cube, lattice

        most = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        for count in [n for n in (1, 2, 4, 8) if n <= most]:
            cube = Cube("jelly", lattice(512 if self.quick else 64_000), threads=count)
            yield self.row("threads", f"{count}", cube, 4 if self.quick else 20, count)

    def rows(self, axis: str) -> Iterator[Row]:
        """Rows of an axis by name."""
        return getattr(self, "threads_" if axis == "threads" else axis)()


MORE = {
    "box": (("layout_ms", "layout, ms"), ("active_nodes", "active nodes")),
    "particles": (("peak_mib", "peak, MiB"),),
    "substeps": (("passes", "passes"), ("bound_mib", "bound, MiB")),
    "worlds": (("forward_us_per_world", "us/world, fwd"), ("gradient_us_per_world", "us/world, f + b")),
    "threads": (),
}


def text(rows: list[Row]) -> Iterator[str]:
    """The table of one axis."""
    axis = rows[0]["axis"]
    more = MORE[axis]
    yield (
        f"{axis:20} {'particles':>10} {'substeps':>8} {'threads':>7} {'forward, ns':>12} {'fwd + bwd, ns':>14}"
        + "".join(f" {name:>15}" for _, name in more)
    )
    for r in rows:
        yield (
            f"{r['label']:20} {r['particles']:10,d} {r['substeps']:8,d} {r['threads']:7d} {r['forward_ns']:12.1f} "
            f"{r['gradient_ns']:14.1f}" + "".join(f" {r[key]:15,.4g}" for key, _ in more)
        )


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.scale", description=__doc__)
    add = parser.add_argument
    add("--axes", nargs="+", default=list(AXES), choices=AXES)
    add("--threads", type=int, default=min(2, os.cpu_count() or 1))
    add("--repeats", type=int, default=3)
    add("--quick", action="store_true", help="tiny sizes, to see that it runs")
    add("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    add("--plot", type=Path, metavar="FILE", help="also draw one picture with a panel per axis (png, svg or pdf)")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write."""
    given = options()
    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.report import header, machine

    quiet_warp()
    told = machine()
    sys.stdout.write(header(told) + "\n")

    def tell(what: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{what:60}\r")

    bench = Bench(given.threads, quick=given.quick, repeats=given.repeats, tell=tell)
    found: dict[str, list[Row]] = {}
    for axis in given.axes:
        found[axis] = list(bench.rows(axis))
        sys.stdout.write("\n" + "\n".join(text(found[axis])) + "\n")
        sys.stdout.flush()
    if given.json:
        given.json.write_text(
            json.dumps({"machine": told, "unit": "ns per particle and substep"} | found, indent=1) + "\n"
        )
    if given.plot:
        plot(found, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
