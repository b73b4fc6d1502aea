"""Throughput of differentiable MPM, beside other programs that do the same work in the same run.

Every row tells speed and correctness together: final mean position and gradients against physim in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    add = parser.add_argument
    add("--scenes", nargs="+", default=["jelly", "water"], choices=["jelly", "water"])
    add("--particles", nargs="+", type=int, default=[1000, 8000, 64000, 512000], help="rounded to cubes")
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--programs", nargs="+", metavar="NAME", help="all unless given")
    add("--repeats", type=int, default=5, help="samples, of which the median is told")
    add("--seconds", type=float, default=0.6, help="length of a sample")
    add("--quick", action="store_true", help="jelly, 1,000 particles, one thread, three short samples")
    add("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    add("--plot", type=Path, metavar="FILE", help="also draw cost against particles and threads (png, svg or pdf)")
    found = parser.parse_args()
    if found.quick:
        found.scenes, found.particles, found.threads = ["jelly"], [1000], [1]
        found.repeats, found.seconds = 3, 0.1
    if min(found.particles) < 8 or min(found.threads) < 1 or max(found.threads) > 64 or found.repeats < 1:
        parser.error("give at least 8 particles, 1 to 64 threads, and at least 1 repeat")
    if max(found.particles) > 600_000:
        parser.error("more than 600,000 particles do not fit a grid of 64^3 nodes")
    return found


def main() -> int:
    """Measure, print, write."""
    given = options()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.case import Case
    from tools.bench.measure import PROGRAMS, Judge, available, configs, measure
    from tools.bench.report import as_json, header, machine, notes, plot, rows, table

    names = given.programs or list(PROGRAMS)
    for name in names:
        if name not in PROGRAMS:
            raise SystemExit(f"no program is named '{name}'. There are: {', '.join(PROGRAMS)}.")
    console = Console(width=None if sys.stdout.isatty() else 160)
    told = machine()
    console.print(header(told), highlight=False)
    quiet_warp()
    judge, errors, made = Judge(), {}, []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        here = list(available(names))
        task = progress.add_task("", total=len(given.scenes) * (len(here) + len(given.particles)))
        for scene in given.scenes:
            for name in here:
                progress.update(task, description=f"{scene}: {name} against float64")
                errors[name, scene] = judge.errors(name, scene, max(given.threads))
                progress.advance(task)
            for particles in given.particles:
                case = Case(scene, particles)
                found = configs(names, case, given.threads)
                start = f"{scene}, {case.count:,} particles: "
                measure(
                    found, given.repeats, given.seconds, lambda s, a=start: progress.update(task, description=a + s)
                )
                made += rows(found, names, given.threads, (scene, case.count))
                progress.advance(task)
    console.print(table(made, errors))
    console.print(notes(names), highlight=False)
    keys = ("scenes", "particles", "threads", "repeats", "seconds")
    if given.json:
        data = as_json(told, {k: getattr(given, k) for k in keys}, made, errors)
        given.json.write_text(json.dumps(data, indent=1) + "\n")
    if given.plot:
        plot(made, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
