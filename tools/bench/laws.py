"""What laws cost: ns per particle and substep of whole MPM substeps, forward and with gradients, and of the law alone.

The scene is NCLaw's (cube of 0.5 m in a box of 20^3 nodes, substeps of 0.5 ms, single precision, one thread), from a
strained start, in rollouts of 25 substeps; gradients are those of a weighted mean position by initial velocities and by
all that is learned. physim's laws run as shipped. The published networks run twice: the plain way (one torch call and
one `wp.Tape` per substep), and as fast as we got them outside the engine (`tools/nclaw/plain_runs.py`: kernels with
adjoints by hand, no autograd). Ratios are the plain networks' time over this one's: both networks' where there is a
plastic flow, learned or not; the elastic one's elsewhere. Samples are CPU time, taken in rotation; told are medians.
The law alone is its launches (stress, return map, and their adjoints), or the torch calls and their gradient; the
shortest of all runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SUBSTEPS = 25
KINDS = ("forward", "both", "law_forward", "law_both")
LAW_KERNELS = ("stress", "stress_adjoint", "project", "project_adjoint")
NETWORKS_OF = ("network", "viscous_network", "inelastic_network")
LEARNED = ("E", "nu", "bulk_modulus", "yield_stress", "viscosity")
"""What gradients are taken of, where a material has it, beside its networks."""
ELASTIC = {"E": 1e5, "nu": 0.2}
PLAIN, PLAIN_FLOW = "nclaw, plain", "nclaw, plain, with flow"
FREE = "fixed_corotated, no walls"
"""The same flight without the six planes that the box is made of: they cost more than the law, or the transfers."""


def laws() -> dict[str, Callable[[], Any]]:
    """Rows of physim: what makes their materials."""
    from physim.laws.material import Material
    from physim.laws.neural import cann, neural_energy, neural_plastic, neural_viscous

    def of(elastic: Any, viscous: Any = None, inelastic: Any = None, **values: float) -> Callable[[], Any]:
        return lambda: Material(elastic, viscous, inelastic, rho0=1e3, values=values or ELASTIC)

    return {
        "fixed_corotated": of("fixed_corotated"),
        FREE: of("fixed_corotated"),
        "hencky": of("hencky"),
        "neural_energy 16": of(neural_energy("invariants", hidden=16)),
        "neural_energy 32": of(neural_energy("invariants", hidden=32)),
        "neural_energy 48": of(neural_energy("invariants", hidden=48)),
        "neural_energy 16, hencky": of(neural_energy("hencky", hidden=16)),
        "neural_energy 16, convex": of(neural_energy("invariants", hidden=16, convex=True)),
        "neural_energy 16, fibre": of(neural_energy("fibre", hidden=16)),
        "cann": of(cann()),
        "cann, stretches": of(cann("stretches")),
        "neural_viscous 8": of("fixed_corotated", neural_viscous(hidden=8), viscosity=5.0, **ELASTIC),
        "neural_energy 16, volume": of(neural_energy("volume", hidden=16), None, "fluid", bulk_modulus=1e5),
        "hencky, von_mises": of("hencky", None, "von_mises", yield_stress=2e3, **ELASTIC),
        "hencky, neural_plastic 8": of("hencky", None, neural_plastic(hidden=8), yield_stress=2e3, **ELASTIC),
    }


NETWORKS = (PLAIN, PLAIN_FLOW, "nclaw, fused", "nclaw, fused, with flow")
QUICK = ("fixed_corotated", "neural_energy 16", PLAIN, "nclaw, fused")


def flows(name: str) -> bool:
    """Whether a row has a plastic map beside its elastic law."""
    return name.endswith(("with flow", "von_mises")) or "neural_plastic" in name


@dataclass
class Start:
    """A strained, turning cube of `side`^3 particles in the published box."""

    side: int
    x: Tensor = field(init=False)
    v: Tensor = field(init=False)
    F: Tensor = field(init=False)
    vol0: Tensor = field(init=False)
    weights: Tensor = field(init=False)

    def __post_init__(self) -> None:
        line = torch.linspace(0.25, 0.75, self.side)
        self.x = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
        n = len(self.x)
        turn = torch.linalg.cross(torch.tensor([4.0, 4.0, 4.0]).expand(n, 3), self.x - 0.5)
        self.v = torch.tensor([1.0, -1.5, -2.0]) + turn
        self.vol0 = torch.full((n,), 0.125 / n)
        slope = torch.tensor([[0.05, 0.03, -0.02], [-0.04, -0.04, 0.02], [0.05, 0.01, 0.03]])
        self.F = torch.eye(3) + (1.0 + torch.sin(9.0 * self.x[:, :1, None])) * slope
        self.weights = (1.0 + torch.sin(7.0 * self.x + 0.3)) / n


class Ours:
    """physim, as shipped."""

    def __init__(self, material: Any, start: Start, *, walls: bool = True) -> None:
        from physim.sim.model import Model
        from physim.solvers.mpm.solver import SolverMPM
        from tools.nclaw.setting import DT, Throw

        self._dt, self._start, self._material = DT, start, material
        material.free(*(n for n in NETWORKS_OF if getattr(material, n) is not None))
        material.free(*(n for n in LEARNED if n in material.values()))
        self._solver = Throw(start.x, start.v, start.vol0).solver(material)
        if not walls:
            model = Model(self._solver.model.grid, start.vol0, [material], gravity=(0.0, -9.8, 0.0))
            self._solver = SolverMPM(model, start.x, start.v, mass_floor=1e-7)
        state = self._solver.initial_state()
        self._state = state.replace(F=start.F)

    def forward(self) -> None:
        """A rollout."""
        with torch.no_grad():
            self._roll(self._state)

    def both(self) -> None:
        """A rollout with its gradients."""
        for p in self._material.parameters():
            p.grad = None
        end = self._roll(self._state.replace(v=self._state.v.clone().requires_grad_()))
        (end * self._start.weights).sum().backward()

    def _roll(self, state: Any) -> Tensor:
        from physim.sim.rollout import rollout

        return rollout(
            self._solver, state, dt=self._dt, steps=SUBSTEPS, every=SUBSTEPS, memory="1000 TiB"
        ).final.x  # fmt: skip

    def law(self, repeats: int) -> dict[str, float]:
        """Shortest times [s] per substep of the launches of the law, of a rollout and of both ways."""
        from tools.bench.kernels import going_back
        from tools.bench.stopwatch import Stopwatch

        work = self._solver._workspace(self._state)
        crew, work.crew = work.crew, Stopwatch(work.crew)
        watch = work.crew
        for _ in range(repeats):
            watch.stage = "forward"
            with going_back(watch):
                self.both()
        work.crew = crew
        spent = {"forward": 0.0, "backward": 0.0}
        for role, note in watch.notes.items():
            if role.kernel in LAW_KERNELS:
                spent[role.stage] += note.seconds
        return {"law_forward": spent["forward"], "law_both": sum(spent.values())}


class _Networks:
    """What both ways of running the published networks share."""

    def __init__(self, start: Start, flow: bool) -> None:
        from tools.nclaw.network import Perceptron
        from tools.nclaw.plain_runs import Box
        from tools.nclaw.setting import DT, NODES

        draw = torch.Generator().manual_seed(0)
        self._start, self._box = start, Box(start.vol0, NODES, DT)
        self._elastic, self._plastic = Perceptron(draw), Perceptron(draw) if flow else None
        with torch.no_grad():
            for layer in self._elastic.linear:
                layer.weight *= 10.0  # as stiff as the others, about

    def law(self, repeats: int) -> dict[str, float]:
        """Nothing is known of the law alone."""
        return {}


class Plain(_Networks):
    """One torch call and one tape per substep."""

    def __init__(self, start: Start, flow: bool) -> None:
        from tools.bench.plain_network import PlainRun

        super().__init__(start, flow)
        self._run = PlainRun(self._box, self._elastic, self._plastic)

    def forward(self) -> None:
        """A rollout."""
        with torch.no_grad():
            self._run.roll(self._start.x, self._start.v, self._start.F, SUBSTEPS)

    def both(self) -> None:
        """A rollout with its gradients."""
        v = self._start.v.clone().requires_grad_()
        (self._run.roll(self._start.x, v, self._start.F, SUBSTEPS) * self._start.weights).sum().backward()

    def law(self, repeats: int) -> dict[str, float]:
        """The torch calls of a substep, and their gradients."""
        from tools.bench.plain_network import stress, symmetric

        nets = [net for net in (self._elastic, self._plastic) if net]
        F = self._start.F.clone().requires_grad_()
        found: dict[str, list[float]] = {"law_forward": [], "law_both": []}
        for _ in range(5 * repeats):
            began = time.process_time()
            made = [stress(net, F) if net is self._elastic else symmetric(net, F) for net in nets]
            found["law_forward"].append(time.process_time() - began)
            torch.autograd.backward(made, made)
            found["law_both"].append(time.process_time() - began)
        return {k: min(s) for k, s in found.items()}


class Fused(_Networks):
    """Kernels with adjoints by hand."""

    def __init__(self, start: Start, flow: bool) -> None:
        from tools.nclaw.plain_runs import Law, Runs

        super().__init__(start, flow)
        self._runs = Runs(Law(self._elastic, self._plastic), self._box, 1, SUBSTEPS)

    def forward(self) -> None:
        """A rollout."""
        start = self._start
        self._runs.begin(start.x, start.v, torch.zeros_like(start.F), start.F)
        self._runs.forward(SUBSTEPS)

    def both(self) -> None:
        """A rollout with its gradients."""
        self.forward()
        self._runs.backward(SUBSTEPS, lambda t: self._start.weights if t == SUBSTEPS else None)


def made(name: str, start: Start) -> Any:
    """What runs a row."""
    if name in NETWORKS:
        return (Plain if "plain" in name else Fused)(start, flows(name))
    return Ours(laws()[name](), start, walls=name != FREE)


def measure(names: Sequence[str], side: int, repeats: int, seconds: float, tell: Callable[[str], None]) -> list[dict]:
    """Rows [ns per particle and substep] of one number of particles."""
    start = Start(side)
    runs: dict[str, Any] = {}
    for name in names:
        tell(f"{name}: compiling")
        runs[name] = made(name, start)
        for kind in KINDS[:2]:
            getattr(runs[name], kind)()
    samples: dict[str, dict[str, list[float]]] = {n: {k: [] for k in KINDS} for n in names}
    for repeat in range(repeats):
        for name, run in runs.items():
            tell(f"{name}: sample {repeat + 1}")
            for kind in KINDS[:2]:
                samples[name][kind].append(_timed(getattr(run, kind), seconds) / SUBSTEPS)
    for name, run in runs.items():
        tell(f"{name}: law alone")
        for kind, spent in run.law(repeats).items():
            samples[name][kind].append(spent)
    count = side**3
    found = []
    for name in names:
        told: dict[str, Any] = {"law": name, "particles": count}
        for kind, spent in samples[name].items():
            told[kind] = 1e9 * statistics.median(spent) / count if spent else None
        told["samples"] = [1e9 * s / count for s in samples[name]["both"]]
        found.append(told)
    for row in found:
        wanted = PLAIN_FLOW if flows(row["law"]) else PLAIN
        against = next((r for r in found if r["law"] == wanted), None)
        for kind in ("both", "law_both"):
            known = against is not None and row[kind] and against[kind]
            row[f"{kind}_ratio"] = against[kind] / row[kind] if against is not None and known else None
    return found


def _timed(work: Callable[[], None], seconds: float) -> float:
    """Mean time [s] of runs that take about so long altogether: of the processor, which others do not spend."""
    count, began = 0, time.process_time()
    while count == 0 or time.process_time() - began < seconds:
        work()
        count += 1
    return (time.process_time() - began) / count


def table(found: Sequence[dict]) -> Iterator[str]:
    """The rows as text."""
    heads = ("forward", "fwd + bwd", "nclaw / this", "law fwd", "law f + b", "nclaw / this")
    yield f"{'particles':>9}  {'law':26}" + "".join(f"{h:>13}" for h in heads)
    keys = ("forward", "both", "both_ratio", "law_forward", "law_both", "law_both_ratio")
    for row in found:
        cells = (f"{row[k]:.0f}" if row[k] and row[k] >= 9.95 else f"{row[k]:.1f}" if row[k] else "-" for k in keys)
        yield f"{row['particles']:9,}  {row['law']:26}" + "".join(f"{c:>13}" for c in cells)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.laws", description=__doc__)
    add = parser.add_argument
    every = [*laws(), *NETWORKS]
    add("--laws", nargs="+", default=every, choices=every, metavar="NAME", help=", ".join(every))
    add("--particles", nargs="+", type=int, default=[1000, 8000], help="rounded to cubes")
    add("--repeats", type=int, default=7, help="samples, of which the median is told")
    add("--seconds", type=float, default=0.1, help="length of a sample")
    add("--quick", action="store_true", help=f"1,000 particles, three short samples of {', '.join(QUICK)}")
    add("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    given = parser.parse_args()
    if given.quick:
        given.laws, given.particles, given.repeats, given.seconds = list(QUICK), [1000], 3, 0.02
    if not 8 <= min(given.particles) <= max(given.particles) <= 100_000:
        parser.error("give 8 to 100,000 particles")
    from rich.console import Console

    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.report import header, machine

    quiet_warp()
    torch.set_num_threads(1)
    told, rows = machine(), []
    sys.stdout.write(header(told) + "\nns per particle and substep; " + __doc__.split("\n\n")[1] + "\n\n")
    for count in given.particles:
        with Console(stderr=True).status("") as status:
            tell = partial(_tell, status, f"{count:,} particles, ")
            found = measure(given.laws, round(count ** (1 / 3)), given.repeats, given.seconds, tell)
        sys.stdout.write("\n".join(table(found)) + "\n\n")
        sys.stdout.flush()
        rows += found
    if given.json:
        given.json.write_text(json.dumps({"machine": told, "substeps": SUBSTEPS, "rows": rows}, indent=1) + "\n")
    return 0


def _tell(status: Any, start: str, text: str) -> None:
    status.update(start + text)


if __name__ == "__main__":
    sys.exit(main())
