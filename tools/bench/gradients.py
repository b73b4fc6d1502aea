"""Gradients of the fast path on six scenes: against central differences, and against the adjoints that Warp generates.

The generated adjoints are those of the same kernels and laws without a single hand-written adjoint: they share the
formulas with the fast path, not the derivatives. Central differences, in float64, share the forward pass only.
Exit status 1 if an error is above its bar.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from tools.bench.gradient_errors import BARS, REASONS, STEPS, Row, compare
from tools.bench.gradient_scenes import SCENES
from tools.bench.plain_laws import by_hand

HEADS = {
    "generated_64": "f64: generated",
    "alone_64": "f64: each world alone",
    "differences_64": "f64: differences",
    "generated_32": "f32: generated",
    "float64_32": "f32: float64",
    "differences_32": "f32: differences",
}
"""Kinds of error, in the order of the columns: precision, and what the gradient is put beside."""


def cell(row: Row, kind: str) -> str:
    """An error, in red where it is above its bar."""
    if kind not in row.errors:
        return "-"
    told = f"{row.errors[kind]:.0e}"
    return f"[red]{told}[/red]" if kind in row.bad else told


def table(rows: Sequence[Row]) -> Table:
    """One line per scene and quantity."""
    out = Table(title="relative errors of gradients of the fast path", header_style="bold")
    out.add_column("scene", no_wrap=True)
    out.add_column("gradient by", no_wrap=True)
    for head in ("size", *HEADS.values(), "their own spread"):
        out.add_column(head, justify="right", overflow="fold")
    before = None
    for row in rows:
        if before not in (None, row.scene):
            out.add_section()
        spread = f"{row.spread:.0e}" if "differences_64" in row.errors else "-"
        name = row.scene if row.scene != before else ""
        out.add_row(name, row.by, f"{row.size:.0e}", *(cell(row, k) for k in HEADS), spread)
        before = row.scene
    return out


def summary(rows: Sequence[Row]) -> Table:
    """The worst of each scene, beside the bars."""
    out = Table(title="the largest of each scene, and the bars", header_style="bold")
    out.add_column("scene")
    for head in HEADS.values():
        out.add_column(head, justify="right", overflow="fold")
    for name in dict.fromkeys(r.scene for r in rows):
        mine = [r for r in rows if r.scene == name]
        worst = {k: max((r.errors[k] for r in mine if k in r.errors), default=None) for k in HEADS}
        out.add_row(name, *("-" if v is None else f"{v:.0e}" for v in worst.values()))
    out.add_section()
    out.add_row("bar", *(f"{BARS[k]:.0e}" if k in BARS else "-" for k in HEADS))
    return out


def laws_of(name: str) -> str:
    """What a scene is, and which of its laws' functions have adjoints written by hand in the fast path."""
    materials = [p.material(8).laws for p in SCENES[name].pieces]
    found = list(dict.fromkeys(f for laws in materials for f in by_hand(laws)))
    return f"{name}: {SCENES[name].summary}. By hand in its laws: {', '.join(found) or 'nothing'}."


def notes(names: Sequence[str]) -> str:
    """What a reader must know."""
    told = [laws_of(n) for n in names]
    told.append(
        "Generated: p2g, grid update, contact, g2p, volume filter, stress and return map under wp.Tape, on plain loops "
        "over the stencil; polar rotation by ten unrolled Newton steps, logarithm and exponential as power series. The "
        "fast path has hand-written adjoints of p2g, grid update, g2p and the filter's transfers, and those of laws by "
        "the reverse of their traces (on a CPU), or generated, with parts by hand (on a GPU); that of contact is "
        "generated in both, and only central differences check it independently."
    )
    told.append(
        f"Differences: slopes along random directions, steps {STEPS[0]:.0e} to {STEPS[-1]:.0e} of a quantity's scale; "
        "Richardson's extrapolation where it changes least from step to step, and by how much (their own spread). "
        "Errors of slopes are relative to the gradient's norm; size is that norm times the scale."
    )
    told += [f"Bar {HEADS[k]} {bar:.0e}: {REASONS[k]}." for k, bar in BARS.items()]
    return "\n".join(told)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.gradients", description=__doc__)
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="without central differences")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; 1 if an error is above its bar."""
    given = options()
    from rich.console import Console

    from physim.scene.kernel_cache import quiet_warp
    from tools.bench.report import header, machine

    console = Console(width=None if sys.stdout.isatty() else 150)
    progress = Console(stderr=True)
    told = machine()
    console.print(header(told), highlight=False)
    quiet_warp()
    rows: list[Row] = []
    with progress.status("") as status:
        for name in given.scenes:
            rows += compare(name, status.update, differences=not given.quick)
    console.print(table(rows))
    console.print(summary(rows))
    console.print(notes(given.scenes), highlight=False)
    bad = [f"{r.scene}, {r.by}: {HEADS[k]} {r.errors[k]:.1e}" for r in rows for k in r.bad]
    if bad:
        console.print("[red]above the bar:[/red]\n" + "\n".join(bad))
    if given.json:
        made: dict[str, Any] = {"machine": told, "bars": BARS, "rows": [asdict(r) | {"bad": r.bad} for r in rows]}
        given.json.write_text(json.dumps(made, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
