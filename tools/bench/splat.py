"""What pictures of particles cost: forward and backward, beside plain torch, and how much the results differ.

A cube of particles, turned a little, fills half the width of the picture of a pinhole camera; the gradient is that of a
weighted sum of the coverage by all positions, in single precision. "torch" is the same function with its sums over
windows done by `index_add_` and indexing, all particles of a chunk at once, its gradient by hand too
(`tools/bench/plain_splat.py`). Both are timed in rotation and told as medians, the ratio as the median of pairs: CPU
time on one thread, the clock's on several. Errors are those of the picture and of the gradient against double
precision, relative to its norm. "of a fit" is the share of the picture in a fit that takes one every 100 substeps of as
many particles of jelly, forward and backward (`Run` of `tools/bench/program_physim.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from physim.observe import splat_maps
from physim.observe.camera import PixelCamera
from physim.observe.splat import Splatter
from tools.bench.case import Case
from tools.bench.plain_splat import plain_bells
from tools.bench.program_physim import Run

SIZES = ((96, 14), (256, 22), (512, 46))
"""Pixels and particles along an edge."""
PROGRAMS = ("physim", "torch")
BETWEEN = 100
"""Substeps from picture to picture: 1/60 s in substeps of 0.17 ms."""


@contextmanager
def program(name: str) -> Iterator[None]:
    """Sums by physim's kernels, or by plain torch."""
    ours = splat_maps.bells
    if name == "torch":
        splat_maps.bells = plain_bells  # type: ignore[assignment]
    try:
        yield
    finally:
        splat_maps.bells = ours


class View:
    """A cube of `side`^3 particles in a square picture."""

    def __init__(self, pixels: int, side: int, threads: int, dtype: torch.dtype = torch.float32) -> None:
        line = (torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5
        x = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
        self.x = x.to(dtype).requires_grad_()
        camera = PixelCamera.look_at((1.0, 0.7, 5.0), (0.0, 0.0, 0.0), pixels, pixels, 0.38)
        self._splatter = Splatter(camera, 1.0 / side, threads=threads)
        draw = torch.Generator().manual_seed(0)
        self._weights = torch.randn(pixels, pixels, generator=draw, dtype=torch.float64).to(dtype)

    def forward(self) -> Tensor:
        """The coverage."""
        with torch.no_grad():
            return self._splatter.coverage(self.x)

    def both(self) -> Tensor:
        """The gradient."""
        return torch.autograd.grad((self._splatter.coverage(self.x) * self._weights).sum(), self.x)[0]


def error(found: Tensor, true: Tensor) -> float:
    """Relative to the norm of what is true."""
    return float((found.double() - true).norm() / true.norm())


def measure(
    sizes: Sequence[tuple[int, int]], repeats: int, threads: int, tell: Callable[[str], None], substeps: int = 20
) -> list[dict[str, Any]]:
    """A row per size and program; times in ms. Without `substeps`, no motion is timed."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    rows: list[dict[str, Any]] = []
    for pixels, side in sizes:
        view, true = View(pixels, side, threads), View(pixels, side, threads, torch.float64)
        picture, gradient = true.forward(), true.both()
        made, motion, run = {}, [], None
        if substeps:
            tell(f"{pixels} px, {side**3:,} particles: motion")
            run = Run(Case("jelly", side**3), threads)
            run.gradient(substeps)
        for name in PROGRAMS:
            tell(f"{pixels} px, {side**3:,} particles: {name}")
            with program(name):
                made[name] = {
                    "pixels": pixels,
                    "particles": side**3,
                    "program": name,
                    "picture_error": error(view.forward(), picture),
                    "gradient_error": error(view.both(), gradient),
                    "forward_samples": [],
                    "both_samples": [],
                }
        for repeat in range(repeats):
            if run:
                began = clock()
                run.gradient(substeps)
                motion.append(1e3 * (clock() - began) / substeps)
            for name in PROGRAMS:
                tell(f"{pixels} px, {side**3:,} particles: {name}, sample {repeat + 1}")
                with program(name):
                    for kind, act in (("forward", view.forward), ("both", view.both)):
                        began = clock()
                        act()
                        made[name][f"{kind}_samples"].append(1e3 * (clock() - began))
        for row in made.values():
            for kind in ("forward", "both"):
                samples, ours = row[f"{kind}_samples"], made["physim"][f"{kind}_samples"]
                row[kind] = statistics.median(samples)
                row[f"{kind}_ratio"] = statistics.median(a / b for a, b in zip(samples, ours, strict=True))
            if motion:
                row["substep"] = statistics.median(motion)
                row["of_a_fit"] = row["both"] / (row["both"] + BETWEEN * row["substep"])
            rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines to print."""
    yield (
        f"{'picture':>9} {'particles':>10} {'program':>8} {'forward':>10} {'fwd + bwd':>10} {'/ physim':>9} "
        f"{'picture':>9} {'gradient':>9} {'of a fit':>9}"
    )
    for row in rows:
        size = f"{row['pixels']}^2"
        share = f"{100 * row['of_a_fit']:.1f} %" if "of_a_fit" in row else "-"
        yield (
            f"{size:>9} {row['particles']:>10,} {row['program']:>8} {row['forward']:>7.2f} ms {row['both']:>7.2f} ms "
            f"{row['both_ratio']:>9.1f} {row['picture_error']:>9.0e} {row['gradient_error']:>9.0e} "
            f"{share:>9}"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.splat", description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=9, help="samples of each program")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both")
    parser.add_argument("--quick", action="store_true", help="the smallest picture only, three samples")
    parser.add_argument("--json", type=Path, help="write everything as JSON")
    given = parser.parse_args()
    if given.repeats < 1 or given.threads < 1:
        parser.error("give at least 1")
    from rich.console import Console

    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.report import header, machine

    quiet_warp()
    torch.set_num_threads(given.threads)
    told = machine()
    sys.stdout.write(header(told) + "\n" + __doc__.split("\n\n")[1] + "\n\n")
    sizes = SIZES[:1] if given.quick else SIZES
    with Console(stderr=True).status("") as status:
        rows = measure(sizes, 3 if given.quick else given.repeats, given.threads, status.update)
    sys.stdout.write("\n".join(table(rows)) + "\n")
    if given.json:
        text = json.dumps({"machine": told, "threads": given.threads, "unit": "ms", "rows": rows}, indent=1)
        given.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
