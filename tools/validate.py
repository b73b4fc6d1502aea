"""Print the validation table: each case's value beside its reference and its bar, misses marked as misses.

Usage: python tools/validate.py [--only NAME ...] [--quick] [--list] [--json FILE]
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import validation
from tools.validation.report import CASES, Case, run_case, table, to_json


def discover() -> None:
    """Import every module of `tools.validation`, which registers its cases."""
    for module in sorted(m.name for m in pkgutil.iter_modules(validation.__path__)):
        importlib.import_module(f"tools.validation.{module}")


def choose(only: list[str] | None, quick: bool) -> list[Case]:
    """The cases to run, in the order of registration; a name also selects every case that starts with it."""
    if not only:
        return [c for c in CASES.values() if c.quick or not quick]
    for name in only:
        if not any(c.startswith(name) for c in CASES):
            near = difflib.get_close_matches(name, CASES, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise SystemExit(f"no case is named '{name}'.{hint} There are: {', '.join(CASES)}.")
    return [c for c in CASES.values() if any(c.name.startswith(n) for n in only)]


def main() -> int:
    """Run the chosen cases; 1 if one of them crashed, 0 otherwise (a miss is reported, not an error)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these cases (prefixes are enough)")
    parser.add_argument("--quick", action="store_true", help="run the cheap cases only")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    options = parser.parse_args()

    import torch
    import warp as wp
    from rich.console import Console

    torch.set_num_threads(1)
    wp.config.quiet = True
    discover()
    if options.list:
        print("\n".join(f"{c.name}{' (quick)' if c.quick else ''}" for c in CASES.values()))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 200)
    outcomes = []
    for chosen in choose(options.only, options.quick):
        outcome = run_case(chosen)
        verdict = "crashed" if outcome.crash else f"{sum(r.met is False for r in outcome.rows)} misses"
        console.print(f"{outcome.name}: {verdict}, {outcome.seconds:.1f} s", style="dim")
        outcomes.append(outcome)
    console.print(table(outcomes))
    rows = [r for o in outcomes for r in o.rows]
    met, missed = sum(r.met is True for r in rows), sum(r.met is False for r in rows)
    console.print(f"{met} met, {missed} missed, {sum(o.seconds for o in outcomes):.0f} s.")
    crashes = [o for o in outcomes if o.crash]
    for outcome in crashes:
        console.print(f"\n{outcome.name} crashed:\n{outcome.crash}", style="red", markup=False)
    if options.json:
        options.json.write_text(to_json(outcomes))
    return 1 if crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
