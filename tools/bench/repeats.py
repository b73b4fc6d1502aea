"""Bit-equal repeats for any number of threads, and what they cost.

Every sum has one order: slabs of cells that share no node scatter to two sets of nodal sums, which are added after,
and cotangents of parameters are summed lot by lot. The cost is the processor time of one thread beside that of one
thread with a single slab, which needs no second set of sums and no addition. Exit status 1 if two repeats differ.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from physim.solvers.mpm.solver import SolverMPM
from tools.bench.case import DT, Case
from tools.bench.measure import KINDS
from tools.bench.program_physim import Run

SCENES = {"jelly": {}, "water": {}, "filtered": {"blend": 0.9, "volume_filter": 0.05}}
"""Options of the solver; the last is water with an AFLIP transfer and the volume filter."""
THROW = 20.0
"""Speed [m/s] that moves the cube by a cell in some eight substeps, so that layouts change on the way."""
SUBSTEPS = 24
WAYS = ("again", "another solver", "recomputed", "another process")
"""How a run is repeated; recomputed: nothing is kept, and the backward pass runs the substeps again."""


def case_of(scene: str, particles: int) -> Case:
    """The cube of a scene."""
    return Case("jelly" if scene == "jelly" else "water", particles)


class Repeats:
    """One solver of a scene, whose runs can be told apart by a fingerprint of all numbers that they leave."""

    def __init__(self, scene: str, particles: int, threads: int) -> None:
        self._run = Run(case_of(scene, particles), threads)
        model = self._run.solver.model
        names = [n for n in self._run.material.values() if n in self._run.material.raw]
        self._run.material.free(*names)
        model.gravity = model.gravity.requires_grad_(True)
        self._leaves = [self._run.material.raw[n] for n in names] + [model.gravity]
        self._solver = SolverMPM(model, self._run.x0, threads=threads, **SCENES[scene])

    def fingerprint(self, *, keep: bool = True) -> tuple[str, str]:
        """Hashes of the final state, and of the gradients by the start, gravity and all parameters."""
        start = self._run.start().detach()
        start = start.replace(v=start.v + torch.tensor([THROW, 0.0, 0.0]))
        fields = ("x", "v", "C", "F")
        wanted = [getattr(start, f).requires_grad_(True) for f in fields] + self._leaves
        end = self._solver.advance(start, None, DT, SUBSTEPS, keep=keep)
        draw = torch.Generator().manual_seed(3)
        loss = sum((getattr(end, f) * torch.randn(getattr(end, f).shape, generator=draw)).mean() for f in fields)
        assert isinstance(loss, torch.Tensor)
        grads = torch.autograd.grad(loss, wanted)
        return hashed([getattr(end, f) for f in (*fields, "h")]), hashed(grads)


def hashed(tensors: Sequence[torch.Tensor]) -> str:
    """The first 12 digits of SHA-256 over all bits."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


@dataclass
class Row:
    """One scene, size and number of threads: hashes, and whether each way to repeat gave the same.

    `like_first` tells whether it is what the first number of threads gave.
    """

    scene: str
    particles: int
    threads: int
    state: str
    gradients: str
    same: dict[str, bool]
    like_first: bool

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.like_first and all(self.same.values())


def in_another_process(scene: str, particles: int, threads: int) -> tuple[str, str]:
    """The fingerprint of a fresh process."""
    command = [sys.executable, "-m", "tools.bench.repeats", "--child", "--scenes", scene]
    command += ["--particles", str(particles), "--threads", str(threads)]
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
    state, grads = json.loads(out.strip().splitlines()[-1])
    return state, grads


def repeated(scene: str, particles: int, threads: int, first: Row | None) -> Row:
    """Repeat in all ways, and compare with the first row of the scene and size."""
    one = Repeats(scene, particles, threads)
    found = one.fingerprint()
    others = {
        "again": one.fingerprint(),
        "another solver": Repeats(scene, particles, threads).fingerprint(),
        "recomputed": one.fingerprint(keep=False),
        "another process": in_another_process(scene, particles, threads),
    }
    same = {way: other == found for way, other in others.items()}
    like = first is None or found == (first.state, first.gradients)
    return Row(scene, case_of(scene, particles).count, threads, *found, same, like)


def with_one_slab(run: Run) -> Run:
    """The same with all cells in one slab, for one thread only."""
    run.solver._workspace(run.start()).slab_limit = 1
    return run


@dataclass
class Cost:
    """Processor time [ns] per particle and substep, with slabs and with one, and the ratios of pairs of samples."""

    scene: str
    particles: int
    kind: str
    slabs: float
    one_slab: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """Median time with slabs over that without."""
        return statistics.median(self.ratios)


def spent(run: Run, kind: str, rollouts: int) -> float:
    """Processor time [s] of rollouts on one thread: unlike the clock's, it leaves out what other programs take."""
    torch.set_num_threads(1)
    gc.collect()
    began = time.process_time()
    for _ in range(rollouts):
        getattr(run, kind)(SUBSTEPS)
    return time.process_time() - began


def costs(scene: str, particles: int, repeats: int, seconds: float) -> list[Cost]:
    """What slabs cost on one thread: samples in turn, each pair in the other order."""
    case, found = case_of(scene, particles), []
    pair = Run(case, 1), with_one_slab(Run(case, 1))
    for kind in KINDS:
        warm = [spent(run, kind, 1) for run in (*pair, *pair)]
        rollouts = max(1, round(seconds / max(min(warm), 1e-6)))
        times: tuple[list[float], list[float]] = ([], [])
        for i in range(repeats):
            for side in (0, 1) if i % 2 else (1, 0):
                times[side].append(spent(pair[side], kind, rollouts) / (case.count * SUBSTEPS * rollouts) * 1e9)
        ratios = [a / b for a, b in zip(*times, strict=True)]
        slabs, one = (statistics.median(t) for t in times)
        found.append(Cost(scene, case.count, kind, slabs, one, ratios))
    return found


def repeats_table(rows: Sequence[Row]) -> Table:
    """Equal or not."""
    out = Table(title=f"bits after {SUBSTEPS} substeps forward and backward, float32", header_style="bold")
    for head in ("scene", "particles", "threads", "state", "gradients", *WAYS, "like the first"):
        out.add_column(head, justify="right" if head in ("particles", "threads") else "left")
    for row in rows:
        told = ["equal" if ok else "[red]unequal[/red]" for ok in (*(row.same[w] for w in WAYS), row.like_first)]
        out.add_row(row.scene, f"{row.particles:,}", str(row.threads), row.state[:8], row.gradients[:8], *told)
    return out


def cost_table(rows: Sequence[Cost]) -> Table:
    """The price."""
    out = Table(title="what it costs: one thread, ns of processor time per particle-substep", header_style="bold")
    for head in ("scene", "particles", "kind"):
        out.add_column(head)
    for head in ("repeatable", "one slab", "ratio (median of pairs)", "half of them within"):
        out.add_column(head, justify="right")
    names = {"forward": "forward", "gradient": "forward + backward"}
    for c in rows:
        low, _middle, high = statistics.quantiles(c.ratios, n=4) if len(c.ratios) > 1 else [c.ratio] * 3
        told = [f"{c.slabs:.0f}", f"{c.one_slab:.0f}", f"{c.ratio:.3f}", f"{low:.3f} to {high:.3f}"]
        out.add_row(c.scene, f"{c.particles:,}", names[c.kind], *told)
    return out


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.repeats", description=__doc__)
    add = parser.add_argument
    add("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    add("--particles", nargs="+", type=int, default=[8000, 64000], help="rounded to cubes")
    add("--threads", nargs="*", type=int, default=[1, 2, 3, 4], help="none: the cost only")
    add("--repeats", type=int, default=15, help="pairs of samples of the cost, of which the median is told; 0 for none")
    add("--seconds", type=float, default=0.3, help="length of a sample")
    add("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Repeat, measure, print, write; 1 if two repeats differ."""
    given = options()
    from physim.scene.kernel_cache import quiet_warp

    quiet_warp()
    if given.child:
        found = Repeats(given.scenes[0], given.particles[0], given.threads[0]).fingerprint()
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    from rich.console import Console

    from tools.bench.report import header, machine

    console = Console(width=None if sys.stdout.isatty() else 150)
    told, rows, prices = machine(), [], []
    console.print(header(told), highlight=False)
    with Console(stderr=True).status("") as status:
        for scene in given.scenes:
            for particles in given.particles:
                first = None
                for threads in given.threads:
                    status.update(f"{scene}, {particles:,} particles, {threads} threads")
                    rows.append(repeated(scene, particles, threads, first))
                    first = first or rows[-1]
                if given.repeats and not SCENES[scene]:
                    status.update(f"{scene}, {particles:,} particles: cost")
                    prices += costs(scene, particles, given.repeats, given.seconds)
    if rows:
        console.print(repeats_table(rows))
    if prices:
        console.print(cost_table(prices))
        console.print(
            "Results are repeatable always; there is no faster mode to choose. With more threads the same work is "
            "shared, and a single slab would not do: its threads would add to the same nodes at the same time.",
            highlight=False,
        )
    if given.json:
        made: dict[str, Any] = {"machine": told, "substeps": SUBSTEPS, "repeats": [asdict(r) for r in rows]}
        made["cost"] = [asdict(c) | {"ratio": c.ratio} for c in prices]
        given.json.write_text(json.dumps(made, indent=1) + "\n")
    return 0 if all(r.equal for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
