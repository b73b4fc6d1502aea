"""Peak memory of forward + backward against the horizon: `python -m tools.bench.memory`.

Each horizon runs in a process of its own; the figure is the peak resident size above that after one substep
forward and backward (which has already paid for Python, torch, compiled kernels and scratch memory).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys


def measure(substeps: int, per_side: int, memory: str) -> dict[str, float]:
    """Peak memory [MiB] of one rollout with gradients, in this process."""
    import torch

    from physim.laws.material import Material
    from physim.shapes import Box, sample
    from physim.sim.model import Grid, Model, Wall
    from physim.sim.rollout import rollout
    from physim.solvers.mpm.solver import SolverMPM

    dx = 0.05
    particles = sample(Box((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), spacing=0.5 / per_side)
    x = torch.as_tensor(particles.x, dtype=torch.float32)
    volume = torch.as_tensor(particles.vol0, dtype=torch.float32)
    material = Material(elastic="neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
    material.free("E")
    floor = [Wall(1, False, 0.15)]
    model = Model(Grid((0, 0, 0), dx, (21, 21, 21)), volume, [material], gravity=(0, -9.8, 0), walls=floor)
    solver = SolverMPM(model, x)
    budget = memory if memory == "auto" else float(memory) * 2**20

    def run(steps: int) -> float:
        trajectory = rollout(solver, solver.initial_state(), dt=2e-4, steps=steps, every=steps, memory=budget)
        trajectory.final.x.square().mean().backward()
        return trajectory.stats["kept_bytes"] / 2**20

    run(1)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bound = run(substeps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradient = float(material.raw["E"].grad)
    found = {"particles": len(x), "substeps": substeps, "peak_mib": (peak - base) / 1024}
    return found | {"bound_mib": bound, "gradient": gradient}


def main() -> None:
    """Print peak memory for 500 and 5,000 substeps of the same scene, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--substeps", type=int, nargs="*", default=[500, 5000])
    parser.add_argument("--per-side", type=int, default=12, help="particles along each side of the cube")
    parser.add_argument("--memory", default="auto", help="budget for kept states [MiB], or auto")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(measure(options.substeps[0], options.per_side, options.memory)) + "\n")
        return
    rows = []
    for count in options.substeps:
        command = [sys.executable, "-m", "tools.bench.memory", "--child", "--substeps", str(count)]
        command += ["--per-side", str(options.per_side), "--memory", options.memory]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(out.strip().splitlines()[-1]))
        r = rows[-1]
        sys.stdout.write(
            f"{r['particles']} particles, {count:6d} substeps: peak {r['peak_mib']:8.1f} MiB above one substep, "
            f"stated bound {r['bound_mib']:.1f} MiB\n"
        )
    ratio = rows[-1]["peak_mib"] / max(rows[0]["peak_mib"], 1e-9)
    sys.stdout.write(
        f"ratio last/first: {ratio:.2f} for {options.substeps[-1] / options.substeps[0]:g} times the substeps\n"
    )


if __name__ == "__main__":
    main()
