"""Everything a finished fit says, as one object and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from physim.fit.assumptions import Assumption
from physim.fit.cells import CELLS
from physim.fit.films import FilmScore
from physim.fit.loop import Position, StartResult, best_start
from physim.fit.quantities import interval, shown, weights_words
from physim.fit.scores import Score
from physim.fit.space import Space
from physim.fit.uncertainty import Estimate, Uncertainty
from physim.observe.record import Comparison
from physim.scene.expectation import Verdict
from physim.scene.learned import LearnedSpec
from physim.scene.rundir import write_atomic


@dataclass(frozen=True)
class FitResult:
    """A finished fit.

    Attributes:
        name: of the scene.
        title: one line about the scene.
        space: the fitted quantities.
        raw: best raw parameters, (p,).
        uncertainty: intervals, correlations, what became of weights, and warnings.
        comparisons: measured beside predicted at the best parameters, held-out records included.
        scores: agreement per observation and role.
        position: history and every start's end.
        level: probability of the intervals.
        seconds: wall time of the fit [s]; of the last run where it was resumed.
        runs: simulations done, of all starts.
        folder: where the files lie; None if none were written.
        notes: sentences about the run: fallbacks, warnings of the scene.
        verdict: the scene's tested number at the fitted values; None where it has none that a fit can tell.
        learned: what training held, by material whose weights were fitted.
        assumptions: numbers taken as known up to a standard deviation, in the order of `uncertainty.shifts`.
        films: how well outlines overlap in each video.
        unseen: sentences about what pictures alone cannot tell.
    """

    name: str
    title: str
    space: Space
    raw: Tensor
    uncertainty: Uncertainty
    comparisons: Sequence[Comparison]
    scores: Sequence[Score]
    position: Position
    level: float = 0.9
    seconds: float = 0.0
    runs: int = 0
    folder: Path | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)
    verdict: Verdict | None = None
    assumptions: tuple[Assumption, ...] = ()
    learned: dict[str, LearnedSpec] = field(default_factory=dict)
    films: tuple[FilmScore, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float]:
        """Fitted physical values by name [SI]."""
        return {e.name: e.value for e in self.uncertainty.estimates}

    @property
    def best(self) -> StartResult:
        """The start that won."""
        return self.position.finished[self.best_start]

    @property
    def best_start(self) -> int:
        """Its number."""
        return best_start(self.position)

    @property
    def as_expected(self) -> bool:
        """False when the tested number is off."""
        return self.verdict is None or self.verdict.ok

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the data do not determine."""
        return self.uncertainty.warnings

    def estimate(self, name: str) -> Estimate:
        """One fitted value with its interval, from the noise alone."""
        return self.uncertainty.estimates[self.space.index(name)]

    def overall(self, name: str) -> Estimate:
        """The same with all that is assumed in its interval."""
        return (self.uncertainty.combined or self.uncertainty.estimates)[self.space.index(name)]

    def moves(self, assumption: Assumption) -> dict[str, float]:
        """Change of each fitted value [SI] if an assumed number is one standard deviation larger, to first order."""
        shift = self.uncertainty.shifts[:, self.assumptions.index(assumption)]
        moved = self.space.values(self.raw + shift) - self.space.values(self.raw)
        return dict(zip(self.space.names, moved.tolist(), strict=True))

    @property
    def scatter(self) -> dict[str, float]:
        """Standard deviation of each fitted value [SI] over grids, beyond what their cells' size tells; empty where
        no grids were compared.
        """
        left = self.uncertainty.shifts[:, len(self.assumptions) :]
        if left.numel() == 0:
            return {}
        moved = self.space.values(self.raw + left.norm(dim=1)) - self.space.values(self.raw)
        return dict(zip(self.space.names, moved.abs().tolist(), strict=True))

    def lines(self) -> list[str]:
        """The result in words: values with intervals, agreement, warnings, the tested number."""
        level = f"{100 * self.level:g} %"
        width = max(len(name) for name in self.space.members)
        told = [
            f"{e.name:<{width}}  {shown(e.value, e.unit)}  ({level}: {interval(e)}" for e in self.uncertainty.estimates
        ]
        both = [f" from noise alone, {interval(c)} with what is assumed)" for c in self.uncertainty.combined]
        told = [a + b for a, b in zip(told, both or [")"] * len(told), strict=True)]
        told += [f"{w.name:<{width}}  {weights_words(w)}" for w in self.uncertainty.weights]
        told += [f"assumed: {text}" for text in map(self.effect, self.assumptions)]
        for s in self.scores:
            # One picture of something at rest has no amplitude.
            share = f", {100 * s.relative:.2f} % of the amplitude, R2 {s.r2:.4f}" if math.isfinite(s.relative) else ""
            told.append(f"{s.name}, {s.role}: RMS {shown(s.rms, s.unit)}{share}")
        told += [line for film in self.films for line in film.lines()]
        return [*told, *self.unseen, *self.warnings, *self.notes, *([str(self.verdict)] if self.verdict else [])]

    def effect(self, assumption: Assumption) -> str:
        """What one standard deviation of an assumed number does to the fitted values, in words."""
        units = {q.name: q.unit for q in self.space.quantities}
        moves = ", ".join(f"{n} by {shown(v, units[n])}" for n, v in self.moves(assumption).items())
        if assumption.numbers == CELLS:
            larger = f"cells of the grid; larger ones by {shown(assumption.sd, assumption.unit)} would move {moves}"
            apart = ", ".join(f"{n} by {shown(v, units[n])}" for n, v in self.scatter.items())
            return larger + (f"; beyond that, grids differ: {apart} (standard deviation)" if apart else "")
        return f"{assumption.name} +{shown(assumption.sd, assumption.unit)} moves {moves}"

    def finished(self, folder: Path | None, seconds: float) -> FitResult:
        """The same with its folder and wall time [s]."""
        return replace(self, folder=folder, seconds=seconds)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings for JSON."""
        u = self.uncertainty
        return {
            "scene": self.name,
            "title": self.title,
            "level": self.level,
            "parameters": {e.name: {k: v for k, v in asdict(e).items() if k != "name"} for e in u.estimates},
            "with_assumptions": {e.name: {"low": e.low, "high": e.high, "sd": e.sd} for e in u.combined},
            "assumed": {
                a.name: {"sd": a.sd, "unit": a.unit, "numbers": list(a.numbers), "moves": self.moves(a)}
                for a in self.assumptions
            },
            "scatter_of_grids": self.scatter,
            "correlation": u.correlation.tolist(),
            "covariance_raw": u.covariance[: len(u.estimates), : len(u.estimates)].tolist(),
            "weights": [asdict(w) for w in u.weights],
            "learned": {name: told.written() for name, told in self.learned.items()},
            "warnings": list(u.warnings),
            "notes": list(self.notes),
            "noise": u.noise,
            "effective_values": u.effective,
            "degrees_of_freedom": u.freedom,
            "scores": [asdict(s) for s in self.scores],
            "videos": [asdict(f) for f in self.films],
            "unseen": list(self.unseen),
            "starts": [
                {
                    "begin": {n: float(v) for n, v in self.space.named(f.begin).items()},
                    "end": {n: float(v) for n, v in self.space.named(f.raw).items()},
                    "weights_moved": self.space.moves(f.raw),
                    "loss": f.loss,
                    "stop": f.stop,
                    "stages": a.ended,
                }
                for a in self.position.attempts
                if (f := a.result) is not None
            ],
            "expected": None if self.verdict is None else {**asdict(self.verdict), "ok": self.verdict.ok},
            "best_start": self.best_start,
            "iterations": len(self.position.history),
            "runs": self.runs,
            "seconds": self.seconds,
        }

    def write_json(self, path: str | Path) -> None:
        """Write `as_dict`, whole or not at all; numbers that are not finite become strings."""
        write_atomic(path, json.dumps(_plain(self.as_dict()), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
