"""Run a scene once and leave a folder behind: resolved scene, log, frames, final state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physim.scene.build import build
from physim.scene.build_observe import gauge_reader, make_gauges
from physim.scene.built import Built
from physim.scene.expectation import Verdict, verdict
from physim.scene.loader import Scene
from physim.scene.resolved import write_resolved
from physim.scene.rundir import append_jsonl, new_run_folder, write_atomic
from physim.scene.states_file import STATES, States, StatesKeeper
from physim.sim.rollout import rollout
from physim.sim.state import FieldState

LOG = "log.jsonl"
FRAMES = "frames"
BODIES = "bodies.safetensors"
FINAL = "final.safetensors"
STATE = ("x", "v", "C", "F", "h")


@dataclass(frozen=True)
class RunResult:
    """What a run found and where it is kept.

    Attributes:
        folder: the run folder.
        times: frame times [s].
        series: values of each observation, (F, k).
        verdict: the scene's tested number, if it has one.
        stats: substeps, dt [s], seconds.
        warnings: what was noticed while the scene was built.
    """

    folder: Path
    times: list[float]
    series: dict[str, np.ndarray]
    verdict: Verdict | None
    stats: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def as_expected(self) -> bool:
        """False when the tested number is off."""
        return self.verdict is None or self.verdict.ok

    def lines(self) -> list[str]:
        """The result in words."""
        speed = f"{self.stats['substeps']} substeps of {self.stats['dt']:.4g} s in {self.stats['seconds']:.3g} s"
        ends = [f"{name}: {', '.join(f'{v:.5g}' for v in s[-1][:6])} at the end" for name, s in self.series.items()]
        return [speed, *ends, *([str(self.verdict)] if self.verdict else [])]


def run_scene(
    scene: Scene,
    out: str | Path = "runs",
    *,
    device: str = "cpu",
    states: bool = False,
    progress: Callable[[int, int], None] | None = None,
    ready: Callable[[], None] | None = None,
) -> RunResult:
    """Simulate a scene without gradients.

    Args:
        scene: a loaded scene.
        out: folder in which the run folder is made.
        device: where it runs.
        states: also keep the full state of all particles at every frame, from which a law can be learned.
        progress: called with (done, total) substeps.
        ready: called once the kernels are loaded and the first substep is done.

    Raises:
        SceneError, StabilityError: the scene cannot be built.
        RolloutFailure: a substep failed; frames, log and states up to it are kept.
    """
    if states and scene.spec.solver != "mpm":
        raise scene.error(("solver",), f"states are of particles: `solver: mpm`, not `{scene.spec.solver}`")
    built = build(scene, device=device)
    gauges = make_gauges(built)
    folder = new_run_folder(scene.name, out)
    write_resolved(scene, folder)
    for message in (*scene.warnings, *built.warnings):
        append_jsonl(folder / LOG, {"event": "warning", "message": message})
    keeper = _Keeper(built, gauges, folder, states=states)
    told = ""
    try:
        with torch.no_grad():
            if ready is not None:
                built.solver.step(built.state, None, built.dt)
                ready()
            trajectory = rollout(
                built.solver,
                built.state,
                dt=built.dt,
                steps=built.steps,
                every=built.every,
                save=keeper.keep,
                progress=progress,
                strict=False,
            )
    finally:
        if keeper.states is not None:
            told = keeper.states.join()
            append_jsonl(folder / LOG, {"event": "states", "kept": keeper.states.count, "message": told})
    keeper.finish(trajectory.final)
    stats = trajectory.stats | {"status": trajectory.status.value, "particles": len(built.x0)}
    append_jsonl(folder / LOG, {"event": "end", **stats})
    if trajectory.failure is not None:
        raise trajectory.failure.remarked(told)
    series = keeper.series()
    units = {name: gauge.unit for name, gauge in gauges.items()}
    found = verdict(scene, trajectory.times, series, units)
    if found is not None:
        told = {"value": found.value, "expected": found.expected, "tolerance": found.tolerance, "ok": found.ok}
        append_jsonl(folder / LOG, {"event": "expect", "meaning": found.meaning, **told})
    return RunResult(folder, trajectory.times, series, found, stats, built.warnings)


def field_arrays(state: FieldState) -> dict[str, np.ndarray]:
    """A field as arrays: with the scene it tells values anywhere; see `field_state`."""
    numbers = {name: np.array([getattr(state, name)]) for name in ("missed", "dt", "defect", "terms")}
    return {"weights": state.weights.detach().numpy(), "before": state.before.detach().numpy(), **numbers}


def field_state(arrays: dict[str, np.ndarray]) -> FieldState:
    """The field of a frame or a final state."""
    weights, before = (torch.from_numpy(arrays[name]) for name in ("weights", "before"))
    numbers = (float(arrays[name][0]) for name in ("t", "missed", "dt", "defect", "terms"))
    return FieldState(weights, before, *numbers)


def states_of(built: Built, states: Sequence[Any]) -> States:
    """States of a scene's frames with what a reader must know of them."""
    vol0, title = built.model.vol0, built.scene.spec.title
    return States(tuple(states), vol0, built.dt, built.every, title)


class _Keeper:
    """Writes each frame as it comes, so that a long run needs no memory and a failed one is not lost."""

    def __init__(self, built: Built, gauges: dict[str, Any], folder: Path, *, states: bool = False) -> None:
        self.built, self.gauges, self.folder = built, gauges, folder
        title = built.scene.spec.title
        path, vol0 = folder / STATES, built.model.vol0
        self.states = StatesKeeper(path, vol0, built.dt, built.every, title) if states else None
        self.read = gauge_reader(built, gauges) if gauges else None
        self.rows: list[np.ndarray] = []
        body = np.concatenate([np.full(len(b.x), i, np.int32) for i, b in enumerate(built.bodies)])
        spacing = np.array([b.spacing for b in built.bodies])
        self.save(folder / BODIES, {"body": body, "spacing": spacing})

    def keep(self, state: Any) -> int:
        """Write one frame and one line of the log; return its number."""
        number = len(self.rows)
        particles = self.built.solver.particles(state)
        frame = {"x": particles.x, "v": particles.v, "J": torch.linalg.det(particles.F)}
        arrays = {k: v.detach().cpu().numpy().astype(np.float32) for k, v in frame.items()}
        arrays["t"] = np.array([particles.t])
        if isinstance(state, FieldState):
            arrays |= field_arrays(state)
        if self.states is not None:
            self.states.add(particles)
        self.save(self.folder / FRAMES / f"{number:05d}.safetensors", arrays)
        row = self.read(state).detach().numpy() if self.read else np.zeros(0)
        self.rows.append(row)
        record: dict[str, Any] = {"event": "frame", "frame": number, "t": particles.t}
        if isinstance(state, FieldState):
            record |= {"missed": state.missed, "defect": state.defect}
        at = 0
        for name, gauge in self.gauges.items():
            size = len(gauge.columns)
            if size <= 12:
                record[name] = row[at] if size == 1 else row[at : at + size]
            at += size
        append_jsonl(self.folder / LOG, record)
        return number

    def series(self) -> dict[str, np.ndarray]:
        """Values of each observation over the frames, (F, k)."""
        table = np.stack(self.rows)
        ends = np.cumsum([len(g.columns) for g in self.gauges.values()])
        return dict(zip(self.gauges, np.split(table, ends[:-1], axis=1), strict=True)) if self.gauges else {}

    def finish(self, state: Any) -> None:
        """Write the last state in full precision."""
        particles = self.built.solver.particles(state)
        arrays = {k: getattr(particles, k).detach().cpu().numpy() for k in STATE}
        if isinstance(state, FieldState):
            arrays |= field_arrays(state)
        self.save(self.folder / FINAL, arrays | {"t": np.array([particles.t])})

    def save(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        """Write arrays atomically."""
        from safetensors.numpy import save

        write_atomic(path, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
