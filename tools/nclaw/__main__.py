"""What learned laws get wrong in the published setting, beside the published figures: `python -m tools.nclaw`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

ENCODERS = {"jelly": "invariants", "water": "volume"}
ROWS = ("analytic", "linear", "learned", "learned, no linear start")


def learned(name: str, hidden: int, seed: int) -> Any:
    """The material whose energy is to be learned, with moduli a factor of two off."""
    from physim.laws.material import Material
    from physim.laws.neural import neural_energy

    law = neural_energy(ENCODERS[name], hidden=hidden)
    values = {"bulk_modulus": 1.2e5} if name == "water" else {"E": 5e4, "nu": 0.3}
    flow = "fluid" if name == "water" else None
    return Material(law, inelastic=flow, rho0=1e3, values=values, network=law.network.make(seed=seed))  # type: ignore[union-attr]


def train(row: str, name: str, hidden: int, seed: int, motion: Any) -> Any:
    """A material of one row of the table, trained."""
    from physim.fit.learn.linear import linear_start
    from physim.fit.learn.refine import refine
    from physim.fit.learn.shooting import Shooting
    from tools.nclaw.setting import cube, truth

    if row == "analytic":
        material = truth(name)
        material.set(**({"bulk_modulus": 1.2e5} if name == "water" else {"E": 5e4, "nu": 0.3}))
        material.free(*material.values())
    else:
        material = learned(name, hidden, seed)
        material.free("network", *material.values())
    shooting = Shooting(cube().solver(material), motion)
    if row in ("linear", "learned"):
        found = linear_start(shooting)
        print(f"  linear start: ridge {found.ridge:.0e}, misfit of runs left out {found.before:.3g} -> "
              f"{found.held_out:.3g}, shear {found.shear:.5g} Pa, bulk {found.bulk:.5g} Pa, "
              f"{len(found.unexcited)} of {len(found.sd)} coefficients not excited")  # fmt: skip
    if row != "linear":
        for substeps in (25, 100, 1000):
            length = substeps // motion.every
            rounds = refine(shooting, length=length, most=max(1, 1000 // substeps), rounds=8)
            print(f"  runs of {substeps} substeps: misfit {rounds[0].misfit:.4g} -> {rounds[-1].misfit:.4g}")
    return material


def main(argv: list[str] | None = None) -> int:
    """Print the table; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.nclaw", description=__doc__)
    parser.add_argument("--materials", nargs="+", default=list(ENCODERS), choices=list(ENCODERS), metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--hidden", type=int, default=48, help="units of the layer")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--every", type=int, default=5, help="substeps between observed states")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    from tools.nclaw.setting import PUBLISHED, TESTS, motion, path, truth
    from tools.nclaw.setting import errors as errors_of

    table: list[dict[str, Any]] = []
    for name in args.materials:
        paths: dict[tuple[str, int], torch.Tensor] = {}

        def known(test: str, i: int, throw: Any, name: str = name, paths: dict = paths) -> torch.Tensor:
            if (test, i) not in paths:
                paths[test, i] = path(throw, truth(name))
            return paths[test, i]

        observed = motion(truth(name), args.every)
        for row in args.rows:
            for seed in args.seeds if row != "analytic" else args.seeds[:1]:
                print(f"{name}, {row}, seed {seed}", flush=True)
                began = time.perf_counter()
                material = train(row, name, args.hidden, seed, observed)
                spent = time.perf_counter() - began
                found = errors_of(name, material, known)
                table.append({"material": name, "row": row, "seed": seed, "seconds": spent, "errors": found})
                print(f"  {spent:.0f} s; " + ", ".join(f"{t} {found[t]:.1e}" for t in TESTS), flush=True)
    _print(table, PUBLISHED, TESTS)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


def _print(table: list[dict[str, Any]], published: dict[str, tuple], tests: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    told = Table(title="mean squared position error [m^2]", show_lines=False)
    for head in ("material", "law", "seed", "seconds", *tests, "published / this, worst"):
        told.add_column(head)
    for name in dict.fromkeys(r["material"] for r in table):
        told.add_row(name, "NCLaw, as published", "", "", *(f"{e:.1e}" for e in published[name]), "")
        for r in (r for r in table if r["material"] == name):
            ratio = min(p / max(r["errors"][t], 1e-30) for p, t in zip(published[name], tests, strict=True))
            cells = [f"{r['errors'][t]:.1e}" for t in tests]
            told.add_row(name, r["row"], str(r["seed"]), f"{r['seconds']:.0f}", *cells, f"{ratio:.3g}")
    Console().print(told)


if __name__ == "__main__":
    sys.exit(main())
