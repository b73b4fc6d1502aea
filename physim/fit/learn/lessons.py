"""The states of a scene as lessons: models, motions, and what is checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from physim.errors import FitError, InputError
from physim.fit.learn.flow import with_history
from physim.fit.learn.learn import Lesson
from physim.fit.learn.schedule import Schedule
from physim.fit.learn.shooting import Motion
from physim.laws.material import Material
from physim.scene.build import build
from physim.scene.built import Built
from physim.scene.loader import Scene, load_scene
from physim.scene.run import states_of
from physim.scene.spec_learn import LearnPart
from physim.scene.spec_measure import StatesPart
from physim.scene.states_file import States, read_states
from physim.sim.rollout import rollout

POSITION, VELOCITY = 1e-3, 1e-3
"""Noise unless given: of a cell, and of the largest speed."""


@dataclass(frozen=True)
class Task:
    """What a scene asks to be learned.

    Attributes:
        name: of the learned material.
        material: its laws, those of the first lesson's model.
        lessons: the trajectories.
        schedule: how.
        sources: where the states of each lesson are from.
    """

    name: str
    material: Material
    lessons: list[Lesson]
    schedule: Schedule
    sources: list[str]


def learn_part(scene: Scene) -> LearnPart:
    """The `learn` section of a scene's fit.

    Raises:
        FitError: there is none.
    """
    if scene.spec.fit is None or scene.spec.fit.learn is None:
        raise FitError(f"{scene.name} has no `fit: {{learn: ...}}`, which says that a law is learned from states.")
    return scene.spec.fit.learn


def make_task(scene: Scene, *, device: str = "cpu") -> Task:
    """Build the scene for every trajectory, and read or make its states.

    Raises:
        InputError: states that do not fit the scene.
        SceneError, StabilityError: the scene cannot be built.
    """
    part = learn_part(scene)
    name = part.material or next(n for n, m in scene.materials.items() if m.learnable)
    lessons = [_lesson(scene, name, key, states, device) for key, states in scene.spec.states.items()]
    given = part.model_dump(exclude={"material", "rounds"})
    defaults = Schedule(**given)
    rounds = part.rounds or (defaults.rounds if part.method == "gauss_newton" else 4)
    first = lessons[0]
    material = first.solver.model.materials[first.material]
    material.free(*free_names(material))
    sources = [_source(key, states) for key, states in scene.spec.states.items()]
    return Task(name, material, lessons, Schedule(**{**given, "rounds": rounds}), sources)


def free_names(material: Material) -> list[str]:
    """Everything of a material that a refinement may move: weights and values that are not at a bound."""
    kinds = ("network", "viscous_network", "inelastic_network")
    networks = [n for n, m in zip(kinds, material.networks, strict=True) if m is not None]
    return [*networks, *(n for n in material.table if n in material.raw)]


def _lesson(scene: Scene, name: str, key: str, part: StatesPart, device: str) -> Lesson:
    own = scene.changed(recording=part.recording) if part.recording else scene
    built = build(own, device=device)
    try:
        found = _states(built, part)
        motion = _motion(built, found, part)
        used = [n for n in own.materials if any(b.material == n for b in built.bodies)]
        if name not in used:
            raise InputError(f"no body is of the material '{name}', which is to be learned.")
        observed = None
        if part.particles is not None:
            n = len(built.x0)
            observed = torch.linspace(0, n - 1, min(part.particles, n)).round().long()
        return Lesson(key, built.solver, motion, used.index(name), part.role == "holdout", observed)
    except InputError as error:
        raise scene.error(("states", key), str(error)) from None


def _states(built: Built, part: StatesPart) -> States:
    """The states of a trajectory: read, or made by running a scene."""
    step = built.scene.spec.time.dt if built.scene.spec.time else None
    if part.file is not None:
        found = read_states(Path(part.file), particles=len(built.x0), dt=step if isinstance(step, float) else None)
    else:
        assert part.scene is not None
        found = made_states(part.scene)
        if len(found.vol0) != len(built.x0):
            raise InputError(f"'{part.scene}' has {len(found.vol0)} particles, and this scene {len(built.x0)}.")
        if isinstance(step, float) and abs(found.dt - step) > 1e-6 * step:
            raise InputError(
                f"'{part.scene}' runs with dt = {found.dt:g} s, and this scene says dt = {step:g} s; runs are compared "
                "substep for substep. Write `dt: auto`, which takes that of the states."
            )
    off = (found.vol0.double() / built.model.vol0.detach().cpu().double() - 1.0).abs().max()
    if float(off) > 1e-3:
        raise InputError(
            f"the volumes of its particles differ from those of the scene, by up to {100 * float(off):.2g} %: the "
            "bodies are not those that the states are of."
        )
    return found


def made_states(name: str) -> States:
    """The states of a scene's own run, at its frames.

    Raises:
        InputError: no such scene, or one without particles.
    """
    scene = load_scene(name)
    if scene.spec.solver != "mpm":
        raise InputError(f"'{name}' has `solver: {scene.spec.solver}`; states are of `mpm`.")
    built = build(scene)
    with torch.no_grad():
        run = rollout(
            built.solver, built.state, dt=built.dt, steps=built.steps, every=built.every, save=lambda s: s.detach()
        )
    return states_of(built, run.saved)


def _motion(built: Built, found: States, part: StatesPart) -> Motion:
    """Every few of the first states, in the precision of the model, with the noise."""
    like, kept = built.state.x, found.states[:: part.every]
    if part.frames is not None:
        kept = kept[: part.frames]
    if len(kept) < 2:
        raise InputError(f"{len(found)} states are too few for every {part.every}th of them; two are needed at least.")

    def moved(state: Any) -> Any:
        return state.replace(**{n: getattr(state, n).to(like) for n in ("x", "v", "C", "F", "h")})

    wanted, alone = built.state.h.shape[1], len(built.model.materials) == 1
    known = kept[0].h.shape[1] == wanted
    if not known and not (wanted and alone):
        raise InputError(
            f"its particles carry {kept[0].h.shape[1]} numbers of history, and those of the scene's laws {wanted}; "
            "learn an elastic law from states of an elastic body."
        )
    fastest = max(float(s.v.norm(dim=1).max()) for s in kept)
    motion = Motion(
        tuple(moved(s) for s in kept),
        found.dt,
        found.every * part.every,
        position_noise=part.noise.position or POSITION * built.model.grid.dx,
        velocity_noise=part.noise.velocity or max(VELOCITY * fastest, 1e-9),
    )
    # Who observes a body does not see its law's history.
    return motion if known else with_history(motion, built.model.materials[0])


def _source(key: str, part: StatesPart) -> str:
    where = Path(part.file).name if part.file else f"a run of {part.scene}"
    return f"{key} ({where})"
