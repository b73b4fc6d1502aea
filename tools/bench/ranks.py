"""One small fit with two recordings on one process, two threads and two ranks: `python -m tools.bench.ranks`.

A block of jelly falls onto the floor under two gravities, and its stiffness is fitted to its mean height. Every way
runs in a process of its own, one way after the other, several times over; the fit is timed without start and kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCENE = """
title: A falling block of jelly
dim: 3
grid: {dx: 5 cm, origin: [0, 0, 0], upper: [1, 1, 1]}
gravity: [0, -9.81, 0]
time: {duration: 0.2 s, frame: 20 ms}
walls: {all: mirror_slip}
materials:
  jelly: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000}
bodies:
  block: {shape: {box: {lower: [0.25, 0.02, 0.25], upper: [0.75, 0.52, 0.75]}}, material: jelly, velocity: [0, -1, 0]}
observe:
  height: {kind: position, body: block, direction: [0, 1, 0], data: a, values: [y], noise: 1 mm}
data:
  a: {columns: {time: s, y: m}, rows: ROWS}
  b: {columns: {time: s, y: m}, rows: ROWS}
recordings:
  a: {}
  b: {set: {gravity: [0, -12, 0], observe.height.data: b}}
fit:
  parameters: {materials.jelly.E: {}}
"""
WAYS = {
    "1 process, 1 thread": (1, 1, 1),
    "1 process, 2 threads, one run each": (1, 2, 1),
    "1 process, 2 threads in every run": (1, 1, 2),
    "2 ranks, 1 thread each": (2, 1, 1),
}
"""Ranks, threads of the fit, threads of torch."""
TIMES = [0.02 * k for k in range(10)]


def write_scene(path: Path) -> None:
    """The scene with records simulated at 30 kPa."""
    import torch

    from physim.fit.run import make_problem
    from physim.scene.loader import load_scene

    path.write_text(SCENE.replace("ROWS", str([[t, 0.0] for t in TIMES])))
    problem = make_problem(load_scene(path))
    text = SCENE
    for name in ("a", "b"):
        with torch.no_grad():
            (height,) = problem.predict(name, problem.space.raw([30e3]))
        rows = [[t, float(y)] for t, y in zip(TIMES, height.predicted[:, 0], strict=True)]
        text = text.replace("ROWS", str(rows), 1)
    path.write_text(text)


def measure(path: Path, method: str, iterations: int, threads: int, torch_threads: int) -> dict[str, Any] | None:
    """Time [s] and result of one fit in this process, or on all ranks of which this is one; None but on the first."""
    import torch

    from physim.fit.loop import run_fit
    from physim.fit.run import make_problem
    from physim.fit.stage import Method, Stage
    from physim.parallel import ranks
    from physim.scene.kernel_cache import quiet_warp
    from physim.scene.loader import load_scene

    quiet_warp()
    with ranks(device="cpu") as team:
        torch.set_num_threads(torch_threads)
        problem = make_problem(load_scene(path))
        starts = [problem.space.start()]

        def fit(count: int) -> Any:
            # No tolerance: every way does the same iterations.
            stage = Stage(method=Method(method), iterations=count, tolerance=0.0)
            return run_fit(problem, [stage], starts, threads=threads, ranks=team)

        fit(1)
        began = time.perf_counter()
        position = fit(iterations)
        seconds = time.perf_counter() - began
        (end,) = position.finished
        value = float(problem.space.values(end.raw)[0])
        runs = sum(r["runs"] for r in position.history)
        return {"seconds": seconds, "value": value, "loss": end.loss, "runs": runs} if team.first else None


def child(way: str, path: Path, method: str, iterations: int) -> dict[str, Any]:
    """Measure one way in processes of its own."""
    count, threads, torch_threads = WAYS[way]
    command = [sys.executable]
    if count > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "tools.bench.ranks", "--child", str(path), "--method", method, "--iterations", str(iterations)]
    command += ["--threads", str(threads), str(torch_threads)]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch_threads)}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"seconds"'))


def main() -> None:
    """Print seconds and speed-up of every way."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.ranks", description=__doc__)
    parser.add_argument("--method", default="adam", choices=["adam", "gauss_newton"])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, nargs=2, default=[1, 1], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        found = measure(given.child, given.method, given.iterations, *given.threads)
        if found is not None:
            sys.stdout.write(json.dumps(found) + "\n")
        return
    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.report import header, machine

    quiet_warp()
    sys.stdout.write(header(machine()) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block.yaml"
        write_scene(path)
        made: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(given.repeats):
            for way, found in made.items():
                found.append(child(way, path, given.method, given.iterations))
    first = next(iter(made.values()))
    for way, found in made.items():
        seconds = [f["seconds"] for f in found]
        ratios = sorted(a["seconds"] / b for a, b in zip(first, seconds, strict=True))
        off = abs(found[0]["value"] / first[0]["value"] - 1.0)
        sys.stdout.write(
            f"{way:36} {statistics.median(seconds):7.2f} s ({min(seconds):.2f} to {max(seconds):.2f})   "
            f"speed-up {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   "
            f"{found[0]['runs']} runs   E {found[0]['value']:.9g} Pa, off by {off:.1e}\n"
        )


if __name__ == "__main__":
    main()
