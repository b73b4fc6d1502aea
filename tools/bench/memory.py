"""Peak memory of forward + backward against the horizon, and the time that recomputation costs.

Each horizon runs in a process of its own. The peak is the largest resident size above that after one substep forward
and backward, which has already paid for Python, torch, compiled kernels and scratch memory; beside it stands the
bound that `rollout_memory` states beforehand. Overheads are medians of ratios of runs taken in turn in one process,
against keeping every substep of the same work; on a busy machine those in processor time, on one thread, hold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DT = 2e-4
"""Substep [s]."""
ROOT = Path(__file__).resolve().parents[2]


class Block:
    """A cube of neo-Hookean jelly on a sticking floor, half a metre wide, eight particles per cell.

    Args:
        per_side: particles along each side.
        threads: CPU threads.
    """

    def __init__(self, per_side: int, threads: int) -> None:
        import torch

        from physim.laws.material import Material
        from physim.scene.kernel_cache import quiet_warp
        from physim.shapes import Box, sample
        from physim.sim.model import Grid, Model, Wall
        from physim.solvers.mpm.solver import SolverMPM

        quiet_warp()
        torch.set_num_threads(threads)
        dx = 1.0 / per_side
        cells = per_side // 2 + 10
        low = 5 * dx
        particles = sample(Box((0.5, low + 0.25, 0.5), (0.5, 0.5, 0.5)), spacing=0.5 / per_side)
        x = torch.as_tensor(particles.x, dtype=torch.float32)
        volume = torch.as_tensor(particles.vol0, dtype=torch.float32)
        self.material = Material(elastic="neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
        self.material.free("E")
        grid = Grid((0.25 - low, 0.0, 0.25 - low), dx, (cells + 1,) * 3)
        model = Model(grid, volume, [self.material], gravity=(0, -9.8, 0), walls=[Wall(1, False, low)])
        self.solver = SolverMPM(model, x, threads=threads)
        self.count = len(x)

    def plan(self, steps: int, memory: str) -> Any:
        """What a run will hold."""
        from physim.sim.rollout import rollout_memory

        return rollout_memory(self.solver, self.solver.initial_state(), dt=DT, steps=steps, every=steps, memory=memory)

    def run(self, steps: int, memory: str) -> tuple[float, float, Any]:
        """Seconds of forward and backward, those of the processor, and the gradient by initial velocities, (n, 3)."""
        from physim.sim.rollout import rollout

        start = self.solver.initial_state()
        v = start.v.clone().requires_grad_(True)
        began, used = time.perf_counter(), time.process_time()
        path = rollout(self.solver, start.replace(v=v), dt=DT, steps=steps, every=steps, memory=memory)
        path.final.x.square().mean().backward()
        assert v.grad is not None
        return time.perf_counter() - began, time.process_time() - used, v.grad


def peak(steps: int, per_side: int, memory: str, threads: int) -> dict[str, Any]:
    """Peak memory [bytes] of one run in this process, and the bound stated beforehand."""
    import resource

    Block(4, threads).run(20, "1 KiB")  # what is imported on first use
    block = Block(per_side, threads)
    block.run(1, memory)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = block.plan(steps, memory)
    seconds, _, slope = block.run(steps, memory)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"particles": block.count, "substeps": steps, "peak": 1024 * (most - base), "bound": plan.bytes}
    found |= {"levels": plan.levels, "segments": plan.segments, "length": plan.length, "passes": plan.passes}
    return found | {"seconds": seconds, "gradient": float(slope.norm()), "plan": str(plan)}


def overhead(steps: int, per_side: int, memory: str, threads: int, repeats: int) -> dict[str, Any]:
    """Seconds of keeping everything, of the budget, and of the smallest budget with one level, in turn."""
    import torch

    from physim.sim.budget import Plan
    from physim.sim.sizes import free_memory

    block = Block(per_side, threads)
    all_kept = "1000 TiB"
    whole: Plan = block.plan(steps, all_kept)
    found: dict[str, Any] = {"particles": block.count, "substeps": steps, "everything": whole.bytes}
    if whole.bytes > 0.6 * free_memory(torch.device("cpu")):
        return found | {"why": "keeping everything would take more than 60 % of the free memory"}
    least = next(p for p in (block.plan(steps, f"{b} B") for b in _budgets(whole)) if p.levels == 0)
    budgets = {"everything": all_kept, "budget": memory, "least": f"{least.budget} B"}
    samples: dict[str, list[float]] = {name: [] for name in budgets}
    processor: dict[str, list[float]] = {name: [] for name in budgets}
    slopes: dict[str, Any] = {}
    for repeat in range(repeats + 1):
        for name, budget in budgets.items():
            seconds, used, slopes[name] = block.run(steps, budget)
            if repeat:  # memory is touched for the first time in the first
                samples[name].append(seconds)
                processor[name].append(used)
    medians = {name: statistics.median(s) for name, s in samples.items()}
    for name in ("budget", "least"):
        plan = block.plan(steps, budgets[name])
        found[name] = {"bound": plan.bytes, "passes": plan.passes}
        for key, of in (("ratio", samples), ("processor_ratio", processor)):
            found[name][key] = statistics.median(a / b for a, b in zip(of[name], of["everything"], strict=True))
        off = (slopes[name] - slopes["everything"]).norm() / slopes["everything"].norm()
        found[name]["gradient_off"] = float(off)
    return found | {"seconds": medians, "samples": samples}


def _budgets(whole: Any) -> list[float]:
    """Rising budgets [bytes] up to keeping everything."""
    return [whole.bytes * 1.02**i for i in range(-400, 0)]


def _child(options: argparse.Namespace, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench.memory", "--child", "--memory", options.memory, *more]
    command += ["--particles", str(options.particles), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"a run failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.memory", description=__doc__)
    add = parser.add_argument
    add("--substeps", type=int, nargs="*", default=[100, 1000, 10_000], help="horizons whose peak is measured")
    add("--particles", type=int, default=64_000, help="rounded to a cube")
    add("--memory", default="1.5 GiB", help="budget: bytes, text such as '2 GiB', or auto")
    add("--overhead", type=int, nargs="*", default=[100, 1000], help="horizons whose time is compared")
    add("--repeats", type=int, default=3)
    add("--threads", type=int, default=min(2, os.cpu_count() or 1))
    add("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print peaks beside bounds, then ratios of time."""
    options = _options()
    per_side = max(2, round(options.particles ** (1 / 3)))
    if options.child:
        if options.substeps:
            found = peak(options.substeps[0], per_side, options.memory, options.threads)
        else:
            found = overhead(options.overhead[0], per_side, options.memory, options.threads, options.repeats)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    say = sys.stdout.write
    peaks, overheads = [], []
    say(f"{per_side**3:,} particles, budget {options.memory}, {options.threads} threads; MiB above one substep\n")
    say("substeps     peak    bound  peak/bound  levels  segments  forward passes  seconds  ms/substep\n")
    for steps in options.substeps:
        r = _child(options, "--substeps", str(steps))
        peaks.append(r)
        say(
            f"{steps:8,d} {r['peak'] / 2**20:8.0f} {r['bound'] / 2**20:8.0f} {r['peak'] / r['bound']:11.2f} "
            f"{r['levels']:7d} {r['segments']:9,d} {r['passes']:15.2f} {r['seconds']:8.1f} "
            f"{1e3 * r['seconds'] / steps:11.2f}\n"
        )
        sys.stdout.flush()
    for steps in options.overhead:
        r = _child(options, "--substeps", "--overhead", str(steps), "--repeats", str(options.repeats))
        overheads.append(r)
        if "why" in r:
            say(f"{steps:,} substeps: no comparison, {r['why']} ({r['everything'] / 2**30:.2f} GiB)\n")
            continue
        say(
            f"{steps:,} substeps, everything kept ({r['everything'] / 2**20:,.0f} MiB): "
            f"{r['seconds']['everything']:.2f} s\n"
        )
        for name, what in (("budget", f"budget {options.memory}"), ("least", "least with one level")):
            b = r[name]
            say(
                f"    {what}: {b['bound'] / 2**20:,.0f} MiB, {b['passes']:.2f} forward passes, "
                f"{b['ratio']:.2f} times as long ({b['processor_ratio']:.2f} in processor time), "
                f"gradient off by {b['gradient_off']:.0e} (float32)\n"
            )
    if options.json:
        options.json.write_text(json.dumps({"peaks": peaks, "overheads": overheads}, indent=1) + "\n")


if __name__ == "__main__":
    main()
