"""What learned laws get wrong in the published setting, beside the published figures: `python -m tools.nclaw`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tools.nclaw.setting import PUBLISHED, TESTS
from tools.nclaw.train import ROWS, WORDS

MATERIALS = tuple(PUBLISHED)


def main(argv: list[str] | None = None) -> int:
    """Print the table; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.nclaw", description=__doc__)
    parser.add_argument("--materials", nargs="+", default=list(MATERIALS), choices=MATERIALS, metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--hidden", type=int, default=48, help="units of neural_energy")
    parser.add_argument(
        "--encoder", nargs="+", default=[], metavar="NAME", help="what the jelly's learned energy may read"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=5, help="substeps between observed states")
    parser.add_argument("--seconds", type=float, default=120.0, help="budget of the published networks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results, and go on from those in it")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="material files of neural_energy, best seed")
    args = parser.parse_args(argv)
    table: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else []
    for name in args.materials:
        _fill(table, name, args)
    _print(table)
    return 0


def _fill(table: list[dict[str, Any]], name: str, args: argparse.Namespace) -> None:
    """Train and test what is not in the table yet."""
    from tools.nclaw.setting import Throw, errors, motion, path, truth
    from tools.nclaw.train import train

    paths: dict[tuple[str, int], Any] = {}

    def known(test: str, i: int, throw: Throw) -> Any:
        if (test, i) not in paths:
            paths[test, i] = path(throw, truth(name))
        return paths[test, i]

    observed = None
    for row in args.rows:
        for seed in args.seeds if row != "analytic" else args.seeds[:1]:
            if any((r["material"], r["row"], r["seed"]) == (name, row, seed) for r in table):
                continue
            observed = observed or motion(truth(name), args.every)
            print(f"{name}, {row}, seed {seed}", flush=True)
            began, busy = time.perf_counter(), time.process_time()
            found, material = train(
                row,
                name,
                args.hidden,
                seed,
                observed,
                seconds=args.seconds,
                told=lambda s: print("  " + s, flush=True),
                encoders=tuple(args.encoder) if name == "jelly" else (),
            )
            spent, busy = time.perf_counter() - began, time.process_time() - busy
            misses = errors(name, found, known)
            table.append({"material": name, "row": row, "seed": seed, "seconds": spent, "cpu": busy, "errors": misses})
            print(
                f"  {spent:.0f} s, {busy:.0f} s of processor time; " + ", ".join(f"{t} {misses[t]:.1e}" for t in TESTS),
                flush=True,
            )
            if args.write and row == "neural_energy" and material is not None and _best(table):
                from tools.nclaw.files import write

                told = write(args.write, name, material, observed, seed=seed, seconds=spent, errors=misses)
                print(f"  {told}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(table, indent=1) + "\n")


def _best(table: list[dict[str, Any]]) -> bool:
    """Whether the newest row has reconstructed the motion better than the same with other seeds."""
    last = table[-1]
    same = [r for r in table if (r["material"], r["row"]) == (last["material"], last["row"])]
    return min(r["errors"]["reconstruction"] for r in same) == last["errors"]["reconstruction"]


def _print(table: list[dict[str, Any]]) -> None:
    """Worst and median of the seeds for each law, beside the published errors."""
    wide = max(len(row) for row in ROWS)
    print("\nmean squared position error [m^2], median of the seeds (largest)")
    print(f"{'':{wide}}  seeds  seconds    cpu  " + "  ".join(f"{t:^17}" for t in TESTS) + "  published / largest")
    for name in (n for n in MATERIALS if any(r["material"] == n for r in table)):
        print(name)
        print(f"  {'published':{wide}}" + " " * 21 + "  ".join(f"{e:^17.1e}" for e in PUBLISHED[name]))
        for row in ROWS:
            some = [r for r in table if (r["material"], r["row"]) == (name, row)]
            if not some:
                continue
            cells, least = [], float("inf")
            for i, test in enumerate(TESTS):
                # A run that fails has no error: NaN, which is worse than any.
                found = sorted((r["errors"].get(test, float("nan")) for r in some), key=lambda e: (e != e, e))
                cells.append(f"{found[(len(found) - 1) // 2]:.1e} ({found[-1]:.1e})")
                if i < len(PUBLISHED[name]):
                    least = min(least, PUBLISHED[name][i] / max(found[-1], 1e-30) if found[-1] == found[-1] else 0.0)
            seconds, busy = (statistics.median(r[key] for r in some) for key in ("seconds", "cpu"))
            line = "  ".join(f"{c:^17}" for c in cells)
            print(f"  {row:{wide}}  {len(some):^3}  {seconds:7.0f}  {busy:5.0f}  {line}  {least:.3g}")
    for row, words in WORDS.items():
        print(f"{row}: {words}")


if __name__ == "__main__":
    sys.exit(main())
