"""Fit a scene from its file to a result folder: the entry of `physim fit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from physim.errors import FitError, SimulationError
from physim.fit.assumptions import Assumption, Varied, changes, make_assumptions, vary
from physim.fit.bands import banded
from physim.fit.cells import cell_size
from physim.fit.checkpoint import CheckpointStore
from physim.fit.derivatives import differentiate, exactly, left_out
from physim.fit.expected import judge
from physim.fit.films import FilmScore, fitted_films
from physim.fit.fingerprint import fingerprint
from physim.fit.frames import write_frames
from physim.fit.loop import Position, best_start, run_fit
from physim.fit.material_file import write_materials
from physim.fit.problem import Problem
from physim.fit.progress import FitBar
from physim.fit.report import write_report
from physim.fit.result import FitResult
from physim.fit.scene_problem import SceneProblem
from physim.fit.scores import score
from physim.fit.settings import advice, fit_part, make_space, make_stages, make_starts
from physim.fit.spread import caught, parallel
from physim.fit.stage import Stage
from physim.fit.table_problem import TableProblem
from physim.fit.training import held_by_training
from physim.fit.uncertainty import laplace
from physim.fit.unseen import unseen
from physim.observe.record import Comparison
from physim.parallel import ALONE, Ranks
from physim.scene.film import Film
from physim.scene.loader import Scene, load_scene
from physim.scene.resolved import write_resolved
from physim.scene.rundir import append_jsonl, new_run_folder, run_folders, write_atomic
from physim.scene.video_views import video_doubts

Draw = Callable[[Path, Sequence[Film]], dict[str, bytes]]
"""Given the result folder with the frames of the fitted simulation, and each video beside it: PNG bytes by caption."""
LOG = "log.jsonl"
CHECKPOINTS = "checkpoints"


def fit_scene(
    source: str | Path | Scene,
    overrides: Sequence[str] = (),
    *,
    data: Sequence[str] = (),
    out: str | Path | None = "runs",
    resume: str | Path | bool | None = None,
    threads: int = 2,
    ranks: Ranks = ALONE,
    device: str = "cpu",
    quiet: bool = False,
    draw: Draw | None = None,
) -> FitResult:
    """Fit a scene to its records.

    Args:
        source: a scene file, the name of a shipped scene, or a loaded scene.
        overrides: changes such as `materials.beam.E=80kPa`.
        data: data files such as `tip=/home/me/tip.csv`.
        out: folder in which the result folder is made; None writes nothing.
        resume: the result folder of an interrupted fit, or True for the newest one of this scene in `out`.
        threads: simulations run at the same time, by each rank; no more than it has cores, where there are several.
        ranks: who shares the simulations. All return the same result; the first alone writes and shows progress.
        device: where simulations run.
        quiet: show no progress bar.
        draw: makes pictures for the report; no frames are written without it.

    Returns:
        Values, intervals, comparisons; `folder` is the result folder.

    Raises:
        InputError: the scene cannot be read or built.
        FitError: nothing to fit, no start could be simulated, or nothing to resume.
    """
    with ranks.together():
        return _fit(source, overrides, data, out, resume, threads, ranks, device, quiet, draw)


def _fit(
    source: str | Path | Scene,
    overrides: Sequence[str],
    data: Sequence[str],
    out: str | Path | None,
    resume: str | Path | bool | None,
    threads: int,
    ranks: Ranks,
    device: str,
    quiet: bool,
    draw: Draw | None,
) -> FitResult:
    began = time.perf_counter()
    if ranks.size > 1:
        threads = min(threads, ranks.cores)
    scene = source if isinstance(source, Scene) else load_scene(source, overrides, data=data)
    if fit_part(scene).learn is not None:
        raise FitError(f"{scene.name} learns a law from states: use `learn_scene`.")
    problem = make_problem(scene, device=device)
    stages = make_stages(scene)
    assumptions = make_assumptions(scene, problem.space)
    varied = vary(problem.for_stage(stages[-1]), assumptions, cell_size(scene))

    def prepared() -> tuple[str | None, list[str]]:
        folder = result_folder(scene, out, resume)
        if folder is None:
            return None, []
        return str(folder), _prepare(scene, folder, CheckpointStore(folder / CHECKPOINTS), resuming=bool(resume))

    named, told = ranks.from_first(prepared)
    folder = None if named is None else Path(named)
    store = None if folder is None else CheckpointStore(folder / CHECKPOINTS)
    starts = make_starts(scene, problem.space)
    with FitBar(scene.name, [s.iterations for s in stages], len(starts), quiet=quiet or not ranks.first) as bar:
        position = run_fit(
            problem,
            stages,
            starts,
            threads=threads,
            ranks=ranks,
            store=store,
            key=fingerprint(scene),
            resume=bool(resume),
            listen=_listener(folder, bar),
        )
        bar.say("intervals")
        notes = [*scene.warnings, *video_doubts(scene), *advice(scene), *told]
        result = conclude(
            scene, problem, stages, position, assumptions, varied, threads=threads, ranks=ranks, notes=notes
        )
        films: list[Film] = []

        def seen() -> tuple[list[dict[str, Any]], tuple[str, ...]]:
            found, scores, told = fitted_films(problem.for_stage(stages[-1]), stages, result.raw)
            films.extend(found)
            return [vars(s) for s in scores], told

        scores, told = ranks.from_first(seen)
        films_scored = tuple(FilmScore(**s) for s in scores)
        result = replace(result, films=films_scored, notes=(*result.notes, *told))
    result = result.finished(folder, time.perf_counter() - began)
    if folder is not None:
        ranks.from_first(lambda: write_results(scene, problem, result, folder, draw, films))
    return result


def make_problem(scene: Scene, *, device: str = "cpu") -> Problem:
    """The problem that a scene poses: recordings simulated on a device, or stress-stretch tables alone."""
    space = make_space(scene)
    return TableProblem(scene, space) if scene.spec.solver == "none" else SceneProblem(scene, space, device=device)


def conclude(
    scene: Scene,
    problem: Problem,
    stages: Sequence[Stage],
    position: Position,
    assumptions: Sequence[Assumption] = (),
    varied: Sequence[Varied] = (),
    *,
    threads: int = 2,
    ranks: Ranks = ALONE,
    notes: Sequence[str] = (),
) -> FitResult:
    """Intervals and scores at the best start, on the problem of the last stage, and the scene's tested number."""
    last = problem.for_stage(stages[-1])
    part = fit_part(scene)
    raw = position.finished[best_start(position)].raw
    base, jacobians = differentiate(last, raw, step=stages[-1].difference, threads=threads, ranks=ranks)
    held, slopes, failures = held_out(last, raw, threads, ranks)
    moved = changes(varied, raw, base, threads=threads, ranks=ranks)
    assumptions = tuple(a for a, so in zip(assumptions, moved.simulated, strict=True) if so)
    failures += moved.notes
    uncertainty = laplace(
        last.space, raw, base, jacobians, level=part.level, assumed=moved.columns, known=left_out(last)
    )
    comparisons = banded(base, jacobians, uncertainty, part.level)
    comparisons += banded(held, slopes, uncertainty, part.level) if last.exact_jacobian else held
    scores = score(comparisons)
    learned, untold = held_by_training(scene, last, raw, scores)
    return FitResult(
        name=scene.name,
        title=scene.spec.title,
        space=problem.space,
        raw=raw,
        uncertainty=uncertainty,
        comparisons=comparisons,
        scores=scores,
        verdict=judge(scene, problem, raw, uncertainty, scores),
        assumptions=assumptions,
        position=position,
        level=part.level,
        runs=sum(r["runs"] for r in position.history),
        notes=(*notes, *failures, *untold),
        learned=learned,
        unseen=unseen(scene, last.space, uncertainty, part.level, assumptions),
    )


def held_out(
    problem: Problem, raw: torch.Tensor, threads: int, ranks: Ranks = ALONE
) -> tuple[list[Comparison], list[torch.Tensor], list[str]]:
    """Predictions of the held-out recordings, their Jacobians where exact, and a sentence for each that cannot be
    simulated.
    """
    exact = problem.exact_jacobian

    def run(recording: str) -> tuple[list[Comparison], list[torch.Tensor]]:
        if exact:
            return exactly(problem, raw, [recording])
        with torch.no_grad():
            return problem.predict(recording, raw), []

    names = problem.held_recordings
    results = parallel(lambda n: caught(run, n), names, threads, ranks)
    found = [r for r in results if not isinstance(r, SimulationError)]
    failed = [
        f"The held-out recording {n} cannot be simulated with the fitted values: {r}"
        for n, r in zip(names, results, strict=True)
        if isinstance(r, SimulationError)
    ]
    return [c.held() for cs, _ in found for c in cs], [J for _, Js in found for J in Js], failed


def write_results(
    scene: Scene,
    problem: Problem,
    result: FitResult,
    folder: Path,
    draw: Draw | None = None,
    films: Sequence[Film] = (),
) -> None:
    """Write `result.json`, the fitted materials, the frames of the first recording, and the report."""
    result.write_json(folder / "result.json")
    write_materials(scene, result, folder)
    pictures = {}
    if draw is not None and isinstance(problem, SceneProblem):
        write_frames(problem.rig(problem.recordings[0]), result.raw, folder)
        pictures = draw(folder, films)
    write_report(result, folder / "report.html", pictures=pictures)
    append_jsonl(folder / LOG, {"event": "end", "seconds": result.seconds, "values": result.values})
    if result.verdict is not None:
        v = result.verdict
        told = {"value": v.value, "expected": v.expected, "tolerance": v.tolerance, "ok": v.ok}
        append_jsonl(folder / LOG, {"event": "expect", "meaning": v.meaning, **told})


def result_folder(scene: Scene, out: str | Path | None, resume: str | Path | bool | None) -> Path | None:
    """The result folder: a new one, or the one to resume."""
    if isinstance(resume, (str, Path)):
        if not Path(resume).is_dir():
            raise FitError(f"{resume}: no such result folder to resume; give the folder that the fit made.")
        return Path(resume)
    if out is None:
        return None
    if resume:
        found = [p for p in run_folders(scene.name, out) if (p / CHECKPOINTS).is_dir()]
        if not found:
            raise FitError(f"no fit of {scene.name} to resume in {out}; start it without --resume.")
        return found[-1]
    return new_run_folder(scene.name, out)


def _prepare(scene: Scene, folder: Path, store: CheckpointStore, *, resuming: bool) -> list[str]:
    """Write the resolved scene, and bring the log of a resumed fit to its checkpoint; notes on what was passed over."""
    if not resuming:
        write_resolved(scene, folder)
        return []
    found = store.newest()
    if found is None:
        raise FitError(f"{folder} holds no checkpoint; start the fit again without --resume.")
    tree, notes = found
    write_atomic(folder / LOG, "")
    for record in Position.of(tree["position"]).history:
        append_jsonl(folder / LOG, {"event": "iteration", **record})
    return notes


def _listener(folder: Path | None, bar: FitBar) -> Callable[[dict[str, Any]], None]:
    def listen(record: dict[str, Any]) -> None:
        bar.advance(record)
        if folder is not None:
            append_jsonl(folder / LOG, {"event": "iteration", **record})

    return listen
