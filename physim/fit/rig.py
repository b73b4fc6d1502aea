"""One recording of a scene as a simulation whose parameters can be set and that is then run and compared."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import InputError
from physim.fit.problem import Rejected
from physim.fit.space import Space
from physim.laws import Material
from physim.laws.neural.flat import put_weights, split_weights
from physim.observe.observer import reader, split
from physim.observe.record import Comparison, Observation
from physim.scene.build import build, time_steps
from physim.scene.build_bodies import make_bodies
from physim.scene.build_observe import make_gauges, make_observations, see
from physim.scene.build_video import picture_observations
from physim.scene.built import Built
from physim.scene.fields import padded
from physim.scene.film import Played
from physim.scene.loader import Scene
from physim.scene.parameters import AXES
from physim.scene.placement import Placement
from physim.scene.pose import rested
from physim.scene.problems import Findings, SceneError
from physim.scene.shape_numbers import settings
from physim.scene.spec_space import PlacementPart
from physim.sim.rollout import rollout
from physim.solvers.solid.newton import Statics

BUILDING = threading.Lock()
"""Kernels are compiled by one thread at a time."""
LONGER = 2.0
"""How many times its duration a scene is simulated at most where a fitted delay moves a record past its end."""
RUNGS = 4
"""Substep counts per frame are rounded up to powers of 2^(1/4), so that a small change of a modulus keeps them."""


class Rig:
    """A built recording for one thread.

    Material parameters, weights of learned laws, velocities, gravity and delays are set in place and carry gradients;
    any other number of the scene is set by building the scene again, without gradients.

    Args:
        scene: with the settings of the recording applied.
        space: the fitted quantities.
        label: put before the names of the observations.
        device: where it is simulated; what is compared lies on the CPU.
    """

    def __init__(self, scene: Scene, space: Space, label: str, *, device: str = "cpu") -> None:
        self.scene, self.space, self.label, self.device = scene, space, label, device
        self.rebuilt = [n for n in space.names if is_rebuilt(n)]
        self._built: Built | None = None
        self._counts: dict[str, tuple[int, ...]] | None = None
        self._statics: Statics | None = None
        self._shape: Tensor | None = None
        self._moved: dict[str, float] | None = None
        self._at: tuple[float, ...] | None = None

    def run(self, raw: Tensor, *, end: float | None = None) -> list[Comparison]:
        """Simulate at raw parameters, (p,), and compare with every record, up to `end` [s].

        Raises:
            SimulationError: a substep failed, or a fitted delay moves a record out of reach.
        """
        values = self.space.named(raw)
        built = self._build(values)
        leaves = {n: v.detach().requires_grad_(v.requires_grad) for n, v in values.items()}
        pairs = self._set_materials(built, values) + self._set_weights(built, raw)
        records = [self._kept_out(o) for o in (*make_observations(built, self._gauges), *self._pictured)]
        observations = [o if end is None else o.shortened(end) for o in records]
        observed = [o for o in observations if o is not None]
        gauges = [o.gauge for o in observed]
        delays = [self._delay(o, values) for o in observed]
        last = max((self._end(o, d) for o, d in zip(observed, delays, strict=True)), default=0.0)
        with _gravity(built, leaves):
            built = self._hung(built)
            state = self._start(built, leaves)
            dt, every, frames = self._steps(built, last, longer=any(self._fits_delay(o) for o in observed))
            trajectory = rollout(
                built.solver, state, dt=dt, steps=frames * every, every=every, save=reader(gauges, see(built))
            )
        rows = torch.stack(trajectory.saved)
        if rows.requires_grad:
            pairs += [(leaf, values[n]) for n, leaf in leaves.items() if not n.startswith("materials.")]
            rows = _Graft.apply([rows], [leaf for leaf, _ in pairs], *(target for _, target in pairs))
        times = torch.tensor(trajectory.times, dtype=torch.float64)
        series = split(gauges, list(rows))
        compared = [o.compare(times, s, delay=d) for o, s, d in zip(observed, series, delays, strict=True)]
        return [c.named(f"{self.label}.{c.name}" if self.label else c.name) for c in compared]

    def prepare(self, raw: Tensor) -> None:
        """Build the scene at raw parameters, (p,), without running it.

        Raises:
            SceneError: it cannot be built.
        """
        self._build(self.space.named(raw))

    def play(self, raw: Tensor, keep: Callable[[Built, Any], None]) -> Built:
        """Simulate at raw parameters, (p,), and hand every frame's state to `keep`.

        The whole duration is simulated, and more where a fitted delay moves a video past its end.
        """
        values = self.space.named(raw)
        built = self._build(values)
        self._set_materials(built, values)
        self._set_weights(built, raw)
        with _gravity(built, values):
            built = self._hung(built)
            state = self._start(built, values)
            dt, every, frames = self._steps(built, float("inf"))
            delayed = [self._end(o, self._delay(o, values)) for o in self._pictured if self._fits_delay(o)]
            if delayed:
                frames = max(frames, self._steps(built, max(delayed), longer=True)[2])
            rollout(built.solver, state, dt=dt, steps=frames * every, every=every, save=lambda s: keep(built, s))
        return built

    def watch(self, raw: Tensor) -> tuple[Built, Played]:
        """Simulate as in `play`, and keep the positions, with the records of videos and their delays."""
        times: list[float] = []
        x: list[np.ndarray[Any, Any]] = []

        def keep(built: Built, state: Any) -> None:
            particles = built.solver.particles(state)
            times.append(float(particles.t))
            x.append(particles.x.detach().cpu().numpy().astype(np.float32))

        with torch.no_grad():
            built, values = self.play(raw, keep), self.space.named(raw)
        records = [(self._kept_out(o), float(self._delay(o, values))) for o in self._pictured]
        return built, Played(np.array(times), np.stack(x), records)

    def _build(self, values: dict[str, Tensor]) -> Built:
        wanted = tuple(float(values[n]) for n in self.rebuilt)
        if self._built is None or wanted != self._at:
            numbers = dict(zip(self.rebuilt, wanted, strict=True))
            with BUILDING:
                overrides = settings(self.scene.spec, numbers, self._lattices(numbers))
                try:
                    changed = self.scene.changed(overrides) if overrides else self.scene
                    self._built = build(changed, device=self.device, hang=False)
                    self._gauges = make_gauges(self._built)
                    self._pictured = picture_observations(self._built)
                except SceneError as error:
                    if self._at is None:
                        raise
                    # A place that is no good is a step that is not taken; the next one builds anew.
                    self._at = ()
                    raise Rejected(str(error)) from None
            self._at, self._statics, self._moved = wanted, None, None
        return self._placed(self._built, values)

    def _placed(self, built: Built, values: dict[str, Tensor]) -> Built:
        """With the cameras and the gravity of a fitted placement."""
        moved = {n: float(v) for n, v in values.items() if n.startswith("placement.")}
        if not moved or moved == self._moved:
            return built
        part = built.scene.spec.placement or PlacementPart()
        parts = {k: list(padded(getattr(part, k))) for k in ("translation", "rotation", "about")}
        for name, value in moved.items():
            _, key, axis = name.split(".")
            parts[key][AXES[axis]] = value
        placement = Placement.of(part.model_copy(update={k: tuple(v) for k, v in parts.items()}))
        cameras = {n: placement.camera(built.placement.undone(c)) for n, c in built.cameras.items()}
        self._built = dataclasses.replace(built, placement=placement, cameras=cameras)
        world = torch.tensor(padded(built.scene.spec.gravity), dtype=torch.float64)
        built.model.gravity = placement.acceleration(world).to(built.model.gravity)
        with BUILDING:
            self._pictured = picture_observations(self._built)
        self._moved = moved
        return self._built

    def _lattices(self, numbers: dict[str, float]) -> dict[str, tuple[int, ...]]:
        """Points of each body's lattice along its axes in the scene as written; they stay when its shape is fitted."""
        if not any(".shape." in name for name in numbers):
            return {}
        if self._counts is None:
            self._counts = {b.name: b.counts for b in make_bodies(self.scene, Findings(self.scene.document))}
        return self._counts

    def _hung(self, built: Built) -> Built:
        """At rest in the static shape of the present materials and gravity, if the scene begins so."""
        pose = self.scene.spec.pose
        if pose is None or not pose.static:
            return built
        start = self._shape
        if start is not None and start.shape != built.state.u.shape:
            start = None
        built, self._statics = rested(built, self._statics, built.state.u if start is None else start)
        self._shape = built.state.u.detach()
        return built

    def _set_materials(self, built: Built, values: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Set material values; pairs of a material's raw parameter and the tensor it must equal."""
        pairs, groups = [], {}
        for name, value in values.items():
            section, *rest = name.split(".")
            if section == "materials" and name not in self.rebuilt:
                groups.setdefault(rest[0], {})[rest[-1]] = value
        for name, group in groups.items():
            material = material_of(built, name)
            if material is None:
                continue
            try:
                # Together, because some limit each other.
                material.set(**{key: value.detach() for key, value in group.items()})
            except InputError as error:
                raise Rejected(str(error)) from error
            for key, value in group.items():
                if value.requires_grad:
                    material.free(key)
                    pairs.append((material.raw[key], material.table[key].to_raw(value)))
                else:
                    material.freeze(key)
        return pairs

    def _set_weights(self, built: Built, raw: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Set the weights of learned laws; pairs of a module's weights and the tensor they must equal."""
        pairs = []
        for name, flat in self.space.weights(raw).items():
            _, material_name, *part = name.split(".")
            material = material_of(built, material_name)
            if material is None:
                continue
            attribute = "_".join(part)
            network = getattr(material, attribute)
            put_weights(network, flat.detach())
            if not flat.requires_grad:
                material.freeze(attribute)
                continue
            material.free(attribute)
            parts = split_weights(network, flat)
            pairs += [(weight, parts[key]) for key, weight in network.named_parameters()]
        return pairs

    def _start(self, built: Built, values: dict[str, Tensor]) -> Any:
        """The first state, with fitted velocities."""
        moved = {n: v for n, v in values.items() if n.startswith("bodies.") and n not in self.rebuilt}
        if not moved:
            return built.state
        v = built.v0.to(built.state.x if hasattr(built.state, "x") else built.x0)
        for name, value in moved.items():
            _, body, _, axis = name.split(".")
            part = built.scene.spec.bodies[body]
            column = AXES[axis]
            before = (*(part.velocity or ()), 0.0, 0.0, 0.0)[column]
            step = torch.zeros_like(v)
            step[built.rows(body), column] = 1.0
            v = v + step * (value - before).to(v)
        if hasattr(built.state, "v"):
            return built.state.replace(v=v)
        return built.state.replace(w=built.solver.initial_state(v=v).w)

    def _kept_out(self, observed: Observation) -> Observation:
        """The record without what is only looked at to end the fit."""
        early = self.scene.spec.fit.early_stop if self.scene.spec.fit is not None else None
        if early is None or early.begin is None:
            return observed
        return replace(observed, held_out=(*observed.held_out, (early.begin, math.inf)))

    def _delays(self, observed: Observation) -> dict[str, float]:
        """What delays a record in the scene [s], by the path of each number: itself, and the video it is taken from."""
        part = self.scene.spec.observe[observed.name]
        found = {f"observe.{observed.name}.delay": part.delay}
        video = getattr(part, "video", None)
        return found if video is None else found | {f"videos.{video}.delay": self.scene.spec.videos[video].delay}

    def _delay(self, observed: Observation, values: dict[str, Tensor]) -> Tensor | float:
        return sum(values.get(name, given) for name, given in self._delays(observed).items())

    def _fits_delay(self, observed: Observation) -> bool:
        return any(name in self.space.names for name in self._delays(observed))

    def _end(self, observed: Observation, delay: Tensor | float) -> float:
        """When a record ends in the simulation [s].

        Raises:
            Rejected: a fitted delay moves it before the start, or so far that no simulation is run for it.
        """
        shift = float(torch.as_tensor(delay).detach())
        end, time = float(observed.times[-1]) + shift, self.scene.spec.time
        if not self._fits_delay(observed) or time is None or 0.0 <= end <= LONGER * time.duration:
            return end
        name = next(n for n in self._delays(observed) if n in self.space.names)
        told = f"the fitted {name} of {shift:.4g} s moves the record's end to {end:.4g} s"
        if end < 0.0:
            raise Rejected(f"{told}, before the simulation starts; give the delay bounds.")
        raise Rejected(
            f"{told}, far past the scene's {time.duration:.4g} s; give the delay bounds, or lengthen the scene."
        )

    def _steps(self, built: Built, last: float, *, longer: bool = False) -> tuple[float, int, int]:
        """Substep [s], substeps per frame, and the frames needed to reach `last` [s].

        Args:
            built: the scene.
            last: infinite for the whole duration.
            longer: go on beyond the scene's duration where `last` does.
        """
        if last <= 0.0 and not longer:
            return built.dt, built.every, 0
        v0 = built.v0
        dt, every, frames = time_steps(built.scene, built.solver, built.state, v0)
        time = built.scene.spec.time
        if time is not None and not isinstance(time.dt, float):
            rung = math.ceil(2.0 ** (math.ceil(RUNGS * math.log2(every) - 1e-9) / RUNGS) - 1e-9)
            dt, every = dt * every / rung, rung
        # One frame more than needed keeps the last interpolation centred.
        reach = LONGER * frames + 1 if longer else frames
        needed = math.ceil(min(last / (dt * every), reach) - 1e-9) + 1
        return dt, every, max(1, needed if longer else min(frames, needed))


def is_rebuilt(name: str) -> bool:
    """Whether a quantity is set by building the scene again."""
    section, *rest = name.replace("[", ".").replace("]", "").split(".")
    if section == "materials":
        return rest[-1] == "density"
    if section == "bodies":
        return rest[1] != "velocity"
    return not (section in ("gravity", "placement") or (section in ("observe", "videos") and rest[-1] == "delay"))


def has_gradient(scene: Scene, name: str) -> bool:
    """Whether a run gives the derivative by a quantity: not where the scene is built again, or the start is static."""
    pose = scene.spec.pose
    if pose is not None and pose.static and name.split(".")[0] in ("materials", "gravity"):
        return False
    return not is_rebuilt(name) and not name.startswith("placement.")


def material_of(built: Built, name: str) -> Material | None:
    """The material of this name in a built scene; None if no body is made of it."""
    for body, made in zip(built.model.bodies, built.bodies, strict=True):
        if made.material == name:
            return built.model.materials[body.material]  # type: ignore[return-value]
    return None


@contextmanager
def _gravity(built: Built, values: dict[str, Tensor]) -> Iterator[None]:
    """The model's gravity with some components replaced."""
    before = built.model.gravity
    parts = {AXES[n.split(".")[1]]: v for n, v in values.items() if n.startswith("gravity.")}
    if parts:
        known = torch.tensor(padded(built.scene.spec.gravity)).to(before)
        world = torch.stack([parts.get(a, known[a]).to(before) for a in range(3)])
        built.model.gravity = built.placement.acceleration(world)
    try:
        yield
    finally:
        built.model.gravity = before


class _Graft(torch.autograd.Function):
    """Rows that depend on leaves inside a model, made to depend on the tensors that those leaves equal."""

    @staticmethod
    def forward(ctx: Any, rows: Sequence[Tensor], leaves: Sequence[Tensor], *targets: Tensor) -> Tensor:
        """The rows themselves."""
        ctx.rows, ctx.leaves, ctx.targets = rows[0], leaves, [t.device for t in targets]
        return rows[0].detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        """Cotangents of the leaves, handed to the targets."""
        with torch.enable_grad():
            found = torch.autograd.grad(ctx.rows, ctx.leaves, gradients[0], allow_unused=True)
        filled = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, ctx.leaves, strict=True)]
        return None, None, *(g.to(device) for g, device in zip(filled, ctx.targets, strict=True))
