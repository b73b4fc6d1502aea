"""One line of the validation table, and the registry of the cases that fill it."""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """A simulated quantity beside its reference.

    Attributes:
        case: name of the case.
        dim: 2 or 3.
        quantity: what is compared.
        value: what the simulation gave, in `unit`.
        reference: what it should be, in `unit`; None where only a value is printed.
        unit: unit of value and reference; "-" for a pure number.
        error: deviation as the case states it, a fraction (0.01 is 1 %); None where there is no reference.
        bar: largest error that counts as met, a fraction; None for a value printed for information.
        note: how the error is computed, or what the reader must know.
        plain: what a correct but plain MLS-MPM reaches, in words; empty where unknown.
    """

    case: str
    dim: int
    quantity: str
    value: float
    reference: float | None
    unit: str
    error: float | None
    bar: float | None
    note: str = ""
    plain: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the error is within the bar; None where there is no bar. A NaN is a miss."""
        if self.bar is None:
            return None
        return self.error is not None and bool(self.error <= self.bar)


CaseFunction = Callable[[], list[Row]]


@dataclass(frozen=True)
class Case:
    """A named function that returns rows; `quick` cases are also run by the test suite."""

    name: str
    run: CaseFunction
    quick: bool


CASES: dict[str, Case] = {}


def case(name: str, *, quick: bool = False) -> Callable[[CaseFunction], CaseFunction]:
    """Decorator: register a case under `name`; names are unique."""

    def register(run: CaseFunction) -> CaseFunction:
        if name in CASES:
            raise ValueError(f"two cases are named '{name}'")
        CASES[name] = Case(name, run, quick)
        return run

    return register


@dataclass
class Outcome:
    """What became of one case: its rows, its wall time [s], and the traceback if it crashed."""

    name: str
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    crash: str = ""


def run_case(chosen: Case) -> Outcome:
    """Run a case; a crash is recorded, not raised, so that the table is completed."""
    began = time.perf_counter()
    outcome = Outcome(chosen.name)
    try:
        outcome.rows = chosen.run()
    except Exception:
        outcome.crash = traceback.format_exc()
    outcome.seconds = time.perf_counter() - began
    return outcome


def relative(value: float, reference: float) -> float:
    """|value - reference| / |reference|."""
    return abs(value - reference) / abs(reference)


def data_folder() -> Path | None:
    """The folder of published measurements: $PHYSIM_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("PHYSIM_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


def table(outcomes: Sequence[Outcome]) -> Any:
    """The outcomes as a rich table."""
    from rich.table import Table

    made = Table(show_lines=False, header_style="bold")
    for name in ("case", "dim", "quantity"):
        made.add_column(name, overflow="fold")
    for name in ("value", "reference", "error", "bar"):
        made.add_column(name, justify="right", no_wrap=True)
    for name in ("plain MPM", "verdict", "wall", "note"):
        made.add_column(name, overflow="fold")
    for outcome in outcomes:
        seconds = f"{outcome.seconds:.1f} s"
        if outcome.crash:
            last = outcome.crash.strip().splitlines()[-1]
            made.add_row(outcome.name, "", "", "", "", "", "", "", "[bold red]CRASH", seconds, last)
        for i, row in enumerate(outcome.rows):
            made.add_row(
                row.case if i == 0 else "",
                f"{row.dim}D",
                row.quantity,
                _number(row.value, row.unit),
                "" if row.reference is None else _number(row.reference, row.unit),
                _percent(row.error),
                _percent(row.bar),
                row.plain,
                {True: "[green]met", False: "[bold red]MISS", None: ""}[row.met],
                seconds if i == 0 else "",
                row.note,
            )
        made.add_section()
    return made


def to_json(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a JSON document; a number that is not finite becomes a string."""
    rows = [
        {k: _plain(v) for k, v in {**asdict(r), "met": r.met, "seconds": o.seconds}.items()}
        for o in outcomes
        for r in o.rows
    ]
    crashes = {o.name: o.crash for o in outcomes if o.crash}
    return json.dumps({"rows": rows, "crashes": crashes}, indent=1)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, unit: str) -> str:
    return f"{value:.5g}" + ("" if unit == "-" else f" {unit}")


def _percent(fraction: float | None) -> str:
    if fraction is None:
        return ""
    return f"{100 * fraction:.3g} %" if abs(fraction) >= 1e-4 or fraction == 0 else f"{fraction:.2g}"
