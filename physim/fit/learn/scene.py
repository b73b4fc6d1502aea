"""A law learned from the states that a scene names, to a result folder: `physim fit` with `fit: {learn: ...}`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from physim.errors import FitError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.fingerprint import fingerprint
from physim.fit.learn.band import Band, bands, covariance, told_apart
from physim.fit.learn.coordinates import Coefficients
from physim.fit.learn.learn import Learned, learn
from physim.fit.learn.lessons import Task, learn_part, make_task
from physim.fit.learn.outcome import PARTS, LearnResult, about_law, position_errors, visited_strains
from physim.fit.learn.progress import LearnBar
from physim.fit.learn.report import write_report
from physim.fit.run import CHECKPOINTS, LOG, result_folder
from physim.laws.reach import Reach
from physim.parallel import ALONE, Ranks
from physim.scene.expectation import Verdict
from physim.scene.loader import Scene, load_scene
from physim.scene.resolved import write_resolved
from physim.scene.rundir import append_jsonl, write_atomic
from physim.scene.verify import figures


def learns(scene: Scene) -> bool:
    """Whether a scene's fit learns a law from states."""
    return scene.spec.fit is not None and scene.spec.fit.learn is not None


def learn_scene(
    source: str | Path | Scene,
    overrides: Sequence[str] = (),
    *,
    data: Sequence[str] = (),
    out: str | Path | None = "runs",
    resume: str | Path | bool | None = None,
    ranks: Ranks = ALONE,
    device: str = "cpu",
    quiet: bool = False,
) -> LearnResult:
    """Learn the material of a scene from its states.

    Args:
        source: a scene file, the name of a shipped scene, or a loaded scene.
        overrides: changes such as `fit.learn.method=adam`.
        data: files of states such as `throw=/home/me/states.safetensors`.
        out: folder in which the result folder is made; None writes nothing.
        resume: the result folder of an interrupted fit, or True for the newest one of this scene in `out`.
        ranks: who shares the trajectories. All return the same result; the first alone writes and shows progress.
        device: where runs are simulated.
        quiet: show no progress bar.

    Raises:
        InputError: the scene cannot be read or built, or its states do not fit it.
        FitError: nothing to learn, runs that fail from the start, or nothing to resume.
    """
    with ranks.together():
        scene = source if isinstance(source, Scene) else load_scene(source, overrides, data=data)
        return _learn(scene, out, resume, ranks, device, quiet)


def _learn(
    scene: Scene, out: str | Path | None, resume: str | Path | bool | None, ranks: Ranks, device: str, quiet: bool
) -> LearnResult:
    began = time.perf_counter()
    learn_part(scene)
    task = make_task(scene, device=device)

    def prepared() -> tuple[str | None, list[str]]:
        folder = result_folder(scene, out, resume)
        return (None, []) if folder is None else (str(folder), _prepare(scene, folder, resuming=bool(resume)))

    named, notes = ranks.from_first(prepared)
    folder = None if named is None else Path(named)
    store = None if folder is None else CheckpointStore(folder / CHECKPOINTS)
    with LearnBar(scene.name, quiet=quiet or not ranks.first) as bar:
        learned = learn(
            task.lessons,
            task.schedule,
            ranks=ranks,
            store=store,
            key=fingerprint(scene),
            resume=bool(resume),
            listen=_listener(folder, bar),
        )
        bar.say("checks")
        result = conclude(scene, task, learned, (*scene.warnings, *notes))
    result = replace(result, folder=folder, seconds=time.perf_counter() - began)
    if folder is not None:
        ranks.from_first(lambda: _write(result, folder))
    return result


def conclude(scene: Scene, task: Task, learned: Learned, notes: Sequence[str] = ()) -> LearnResult:
    """Bands, checks and errors of what was learned."""
    strain, volume = visited_strains(task)
    told, said = list(notes), Reach() if strain is None or volume is None else Reach(strain, volume)
    found: list[Band] = []
    unexcited: tuple[str, ...] = ()
    if isinstance(learned.coordinates, Coefficients):
        matrix = covariance(learned.taught, learned.point)
        sure = told_apart(matrix)
        unexcited = tuple(n for n, s in zip(learned.coordinates.names, sure.tolist(), strict=True) if not s)
        if not task.material.elastic.fibre:
            found = bands(task.material, learned.coordinates, learned.point, matrix, said.strain)
        read = learned.start is not None and "strength" in learned.start
        told += untouched(task, strength=read)
    theta = learned.coordinates.theta(learned.point[None])[0]
    over_time, errors = {}, {}
    for name, runs in zip(learned.names, learned.held, strict=True):
        states = runs.shooting.motion.states[runs.starts[0] : runs.starts[0] + runs.length + 1]
        over_time[name] = [s.t for s in states[1:]], position_errors(runs, theta)
        errors[f"{name}_position"] = f"{over_time[name][1][-1]:.3g} m after {states[-1].t - states[0].t:.3g} s held out"
    checks = figures(task.material, said)
    about = about_law(scene, task, learned, checks, errors, commit=_commit())
    return LearnResult(
        name=scene.name,
        title=scene.spec.title,
        task=task,
        learned=learned,
        spec=scene.materials[task.name],
        about=about,
        bands=found,
        over_time=over_time,
        unexcited=unexcited,
        notes=tuple(told),
        verdict=_verdict(scene, task),
    )


def untouched(task: Task, *, strength: bool) -> list[str]:
    """A sentence about weights that no coefficient of the elastic law moves, and that no `strength` was read into."""
    still = {"law"} | ({"inelastic"} if strength else set())
    kinds = [kind for kind, one in zip(PARTS, task.material.networks, strict=True) if one is not None]
    kinds = [kind for kind in kinds if kind not in still]
    if not kinds:
        return []
    return [
        f"The weights of the {' and the '.join(kinds)} law are as they were: only those of the elastic law were moved. "
        "Use `method: adam`, which moves all."
    ]


def _verdict(scene: Scene, task: Task) -> Verdict | None:
    """The scene's tested number, where it is a value of the learned material."""
    part = scene.spec.expect
    if part is None or part.quantity != "parameter" or part.parameter is None:
        return None
    head, _, key = part.parameter.partition(f"materials.{task.name}.")
    values = task.material.values()
    if head or key not in values:
        return None
    unit = scene.materials[task.name].params[key].dimension.unit
    return Verdict(part.meaning, float(values[key].detach()), part.value, part.tolerance, unit)


def _write(result: LearnResult, folder: Path) -> None:
    result.write(folder)
    write_report(result, folder / "report.html")
    append_jsonl(folder / LOG, {"event": "end", "seconds": result.seconds, "held_out": result.learned.held_out})


def _prepare(scene: Scene, folder: Path, *, resuming: bool) -> list[str]:
    """Write the resolved scene, and bring the log of a resumed fit to its checkpoint; notes on what was passed over."""
    if not resuming:
        write_resolved(scene, folder)
        return []
    found = CheckpointStore(folder / CHECKPOINTS).newest()
    if found is None:
        raise FitError(f"{folder} holds no checkpoint; start the fit again without --resume.")
    tree, notes = found
    write_atomic(folder / LOG, "")
    for record in tree["position"].get("history", []):
        append_jsonl(folder / LOG, {"event": "round", **record})
    return notes


def _listener(folder: Path | None, bar: LearnBar) -> Callable[[dict[str, Any]], None]:
    def listen(record: dict[str, Any]) -> None:
        bar.advance(record)
        if folder is not None:
            append_jsonl(folder / LOG, {"event": "round", **record})

    return listen


def _commit() -> str | None:
    """The commit of a checkout; None where physim is installed without one."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
