"""What learning a scene's law has found: words, numbers for `result.json`, and the material file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from physim import __version__
from physim.fit.learn.band import Band
from physim.fit.learn.learn import Learned, last_taught
from physim.fit.learn.lessons import Task
from physim.fit.material_file import quantity, write_learned
from physim.fit.training import visited
from physim.laws.material import Material
from physim.scene.expectation import Verdict
from physim.scene.learned import LearnedSpec
from physim.scene.loader import Scene
from physim.scene.materials import MaterialSpec
from physim.scene.rundir import write_atomic

PARTS = ("law", "viscous", "inelastic")


@dataclass(frozen=True)
class LearnResult:
    """A learned law.

    Attributes:
        name: of the scene.
        title: one line about the scene.
        task: what was asked for.
        learned: what was found.
        spec: the material as the scene has it.
        about: what its file tells of how it was learned.
        bands: curves with what is not known of them.
        over_time: root mean square position error [m] over particles and axes after each interval of what is held out,
            by lesson: (times, errors).
        unexcited: coefficients about which the motion says nothing.
        notes: sentences about the run.
        verdict: the scene's tested number.
        folder: where the files lie; None if none were written.
        seconds: wall time [s].
    """

    name: str
    title: str
    task: Task
    learned: Learned
    spec: MaterialSpec
    about: LearnedSpec
    bands: Sequence[Band]
    over_time: dict[str, tuple[list[float], list[float]]]
    unexcited: tuple[str, ...]
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    folder: Path | None = None
    seconds: float = 0.0

    @property
    def material(self) -> Material:
        """The learned material."""
        return self.task.material

    @property
    def as_expected(self) -> bool:
        """False when the tested number is off."""
        return self.verdict is None or self.verdict.ok

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the motion does not tell."""
        return (unexcited_sentence(self.unexcited, len(self.learned.point)),) if self.unexcited else ()

    def values(self) -> dict[str, float]:
        """Named values [SI] of the learned material by key, as its file has them."""
        found = {k: float(v.detach()) for k, v in self.material.values().items() if v.numel() == 1}
        return {k: found[k.rpartition(".")[2]] for k in self.spec.values if k.rpartition(".")[2] in found}

    def lines(self) -> list[str]:
        """The result in words."""
        one, dims = self.learned, {k: p.dimension for k, p in self.spec.params.items()}
        values = ", ".join(f"{k} {quantity(v, dims[k])}" for k, v in self.values().items())
        told = [f"{self.task.name}: {self.spec.law}, {values}"]
        if one.start is not None:
            told.append(
                f"weak form: runs left out miss by {one.start['before']:.3g} -> {one.start['held_out']:.3g} noise units"
            )
            if "strength" in one.start:
                read = one.start["strength"]
                told.append(
                    f"strength: read off the strains at yield ({100 * read['yielding']:.3g} % of all), to "
                    f"{100 * read['held_out']:.2g} % of itself"
                )
        told.append(
            f"prediction of what is held out: {one.first:.3g} noise units"
            + (f" -> {one.held_out:.3g} after {len(one.history)} rounds" if one.held_out != one.first else "")
            + f", {one.stopped}"
        )
        told += [f"{k}: {v}" for k, v in (self.about.checks or {}).items()]
        return [*told, *self.warnings, *self.notes, *([str(self.verdict)] if self.verdict else [])]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings for JSON."""
        one = self.learned
        return {
            "scene": self.name,
            "title": self.title,
            "material": self.task.name,
            "law": self.spec.law,
            "values": self.values(),
            "learned": self.about.written(),
            "held_out": one.held_out,
            "held_out_before": one.first,
            "weak_form": one.start,
            "rounds": one.history,
            "stopped": one.stopped,
            "unexcited": list(self.unexcited),
            "trajectories": self.task.sources,
            "over_time": {k: {"time": t, "position_error": e} for k, (t, e) in self.over_time.items()},
            "bands": [
                {"test": b.test, "stretch": b.stretch.tolist(), "stress": b.stress.tolist(), "sd": b.sd.tolist()}
                for b in self.bands
            ],
            "notes": list(self.notes),
            "expected": None if self.verdict is None else {**asdict(self.verdict), "ok": self.verdict.ok},
            "seconds": self.seconds,
        }

    def write(self, folder: Path) -> None:
        """Write `result.json`, and `material.yaml` with its weights beside it."""
        write_atomic(folder / "result.json", json.dumps(_plain(self.as_dict()), indent=2, allow_nan=False) + "\n")
        self.write_material(folder / "material.yaml")

    def write_material(self, path: Path) -> None:
        """Write the material as a file that any scene can include, its weights beside it."""
        title = f"{self.spec.name}, learned from {self.title}"
        source = f"physim fit {self.name}: states of {', '.join(self.task.sources)}"
        write_learned(path, self.material, self.about, title=title, source=source)


def about_law(
    scene: Scene, task: Task, learned: Learned, checks: dict[str, Any], errors: dict[str, str], *, commit: str | None
) -> LearnedSpec:
    """What the file tells: strains that were seen, misfit, where from, checks."""
    strain, volume = visited_strains(task)
    network = scene.materials[task.name].network
    misfit = relative_misfit(task, learned)
    return LearnedSpec(
        strain=strain,
        volume=volume,
        misfit=misfit,
        source=f"{', '.join(task.sources)}, {sum(len(o.motion.states) for o in task.lessons)} states",
        scene=scene.name,
        version=__version__ if commit is None else f"{__version__} ({commit})",
        seed=None if network is None else network.seed,
        errors=errors,
        checks=checks,
    )


def visited_strains(task: Task) -> tuple[float | None, tuple[float, float] | None]:
    """Largest norm of the Hencky strain, and least and largest J, in the states that were learned from."""
    seen = visited(
        state.F[_rows(one)]
        for one in task.lessons
        if not one.holdout and one.observed is None  # tracks tell no strains
        for state in one.motion.states[: last_taught(one.motion, task.schedule.held_out) + 1]
    )
    return (None, None) if seen is None else (seen.strain, seen.volume)


def _rows(lesson: Any) -> Tensor:
    """Particles of the learned material."""
    bodies = [b for b in lesson.solver.model.bodies if b.material == lesson.material]
    return torch.cat([torch.arange(b.start, b.stop) for b in bodies])


def relative_misfit(task: Task, learned: Learned) -> float | None:
    """Prediction error of positions over how far particles went, root mean squares, of what is held out."""
    shares = []
    for runs in learned.held:
        motion, start = runs.shooting.motion, runs.starts[0]
        ends = motion.states[start + runs.length]
        axes = runs.shooting.solver.model.grid.dim
        moved = float((ends.x - motion.states[start].x)[:, :axes].double().square().mean().sqrt())
        miss = position_errors(runs, learned.coordinates.theta(learned.point[None])[0])[-1]
        shares.append(miss / max(moved, 1e-12))
    return max(shares) if shares and all(map(math.isfinite, shares)) else None


def position_errors(runs: Any, theta: Tensor) -> list[float]:
    """Root mean square position error [m] over particles and axes after each interval of the first of some runs."""
    return [math.sqrt(e) for e in runs.position_errors(theta).tolist()]


def unexcited_sentence(names: Sequence[str], count: int) -> str:
    """What the motion says nothing about, in one sentence."""
    units = [n for n in names if n.startswith("unit ")]
    others = [n for n in names if not n.startswith("unit ")]
    told = [*others, *([f"{len(units)} units of the network"] if len(units) > 1 else units)]
    return (
        f"The motion says nothing about {', '.join(told)} ({len(names)} of {count} coefficients): there the law is "
        "what keeping them small makes it."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
