"""Materials from synthetic films: error, interval and time of every fit: `python -m tools.clips`.

Films are drawn by VTK from simulations on finer grids, with other particles and other substeps than those of the fit;
256 x 256 pixels, H.264, noise of 3 grey levels, a textured background.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tools.clips.cases import CASES

if TYPE_CHECKING:
    from tools.clips.fit import Found

COVERAGE = 0.85
"""Share of repeats whose interval is to hold the truth."""


def main(argv: list[str] | None = None) -> int:
    """Make films, fit them, and print the table; see the module."""
    from tools.clips.fit import OBSERVED, Found, fit
    from tools.clips.make import make, ship

    parser = argparse.ArgumentParser(prog="python -m tools.clips", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, metavar="NAME")
    parser.add_argument("--observed", nargs="+", default=list(OBSERVED), choices=OBSERVED, metavar="WHAT")
    parser.add_argument("--starts", nargs="+", type=int, default=[0, 1], choices=(0, 1), help="0 low, 1 high")
    parser.add_argument(
        "--repeats", type=int, default=1, help="films with other noise, each fitted from the first start"
    )
    parser.add_argument("--folder", type=Path, default=Path("clips"), help="where the films are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results, and go on from those in it")
    parser.add_argument("--only-make", action="store_true", help="make the films, fit nothing")
    parser.add_argument("--ship", action="store_true", help="make the clip of scenes/jelly_video.yaml anew")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    if args.ship:
        print(ship(Path(__file__).parents[2] / "scenes"))
        return 0
    table = [Found(**row) for row in json.loads(args.json.read_text())] if args.json and args.json.is_file() else []
    known = {(f.case, f.observed, f.start, f.seed) for f in table}
    for name in args.cases:
        for seed in range(args.repeats):
            place = make(CASES[name], args.folder, seed=seed)
            print(f"{place}", flush=True)
            for observed in () if args.only_make else args.observed:
                for start in args.starts if seed == 0 else args.starts[:1]:
                    if (name, observed, start, seed) in known:
                        continue
                    found = fit(CASES[name], place, observed, start, seed=seed, threads=args.threads)
                    table += found
                    for one in found:
                        print(_line(one), flush=True)
                    if args.json:
                        args.json.write_text(json.dumps([asdict(f) for f in table], indent=1))
    _summary([f for f in table if f.case in args.cases], args.repeats)
    return 0


def _line(f: Found) -> str:
    within = (
        "" if f.target is None else ("within " if abs(f.error) <= f.target else "outside ") + f"{100 * f.target:g} %"
    )
    return (
        f"{f.case:10} {f.observed:18} {'low high'.split()[f.start]:4} seed {f.seed:2} {f.name:44} {f.value:10.5g} "
        f"({f.low:.5g} to {f.high:.5g}) for {f.truth:.5g}: {100 * f.error:+6.1f} % {within:12} "
        f"{'held' if f.held else 'missed':6} {f.seconds:4.0f} s, {f.cpu:4.0f} CPU s, {f.runs} runs; {f.stop}"
    )


def _summary(table: Sequence[Found], repeats: int) -> None:
    """The table by number and by what was observed."""
    print("\nerror of the low and of the high start; (h) where the 90 % interval holds the truth; CPU s")
    observed = list(dict.fromkeys(f.observed for f in table))
    for case, name in dict.fromkeys((f.case, f.name) for f in table):
        rows = [f for f in table if (f.case, f.name, f.seed) == (case, name, 0)]
        cells = []
        for what in observed:
            pair = sorted((f for f in rows if f.observed == what), key=lambda f: f.start)
            cells.append(
                f"{what}: "
                + " ".join(f"{100 * f.error:+.1f} %{' (h)' if f.held else ''}" for f in pair)
                + f", {max((f.cpu for f in pair), default=0):.0f} s"
            )
        print(f"{case} {name}: " + "; ".join(cells))
    if repeats > 1:
        for case, what, name in dict.fromkeys((f.case, f.observed, f.name) for f in table):
            rows = [f for f in table if (f.case, f.observed, f.name) == (case, what, name) and f.start == 0]
            held = sum(f.held for f in rows)
            enough = "enough" if held >= COVERAGE * len(rows) else "too few"
            print(f"{case} {what} {name}: {held} of {len(rows)} intervals hold the truth, {enough}")


if __name__ == "__main__":
    sys.exit(main())
