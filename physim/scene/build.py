"""A loaded scene to a model, a solver, and the first state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from physim.errors import InputError, SimulationError, StabilityError
from physim.laws.stability import reach_share
from physim.scene.build_bodies import BodyParticles, make_bodies
from physim.scene.build_observe import make_gauges
from physim.scene.build_space import make_colliders, make_grid, make_walls, solid_grid
from physim.scene.built import Built
from physim.scene.cameras import make_cameras
from physim.scene.fields import padded
from physim.scene.loader import Scene
from physim.scene.materials import make_material
from physim.scene.placement import Placement
from physim.scene.pose import posed, rested
from physim.scene.problems import Findings, SceneError
from physim.scene.views import note_views
from physim.sim.model import Body, Collider, Grid, Model
from physim.sim.rollout import check_dt, substep_size

DTYPES = {"single": torch.float32, "double": torch.float64}

# Share of a cell that the fastest particle may cross in one substep, falling and colliders included.
COURANT = 0.5


def build(scene: Scene, *, device: str = "cpu", precision: str | None = None, hang: bool = True) -> Built:
    """Make the model, the solver and the first state of a scene.

    Args:
        scene: a loaded scene whose solver simulates.
        device: where tensors live.
        precision: `single` or `double`; the scene's own unless given.
        hang: give a scene with `pose: static` its static shape; without, it begins undeformed.

    Raises:
        SceneError: bodies outside the grid or inside each other, an unusable mesh or wall.
        StabilityError: the scene's dt is beyond the stable limit.
    """
    spec = scene.spec
    if spec.solver == "none":
        raise scene.error(("solver",), "`solver: none` has nothing to simulate; use `physim fit`")
    if spec.solver == "insr" and torch.device(device).type != "cpu":
        raise scene.error(("solver",), f"`solver: insr` runs on the CPU, not on {device}; leave --device out")
    dtype = torch.float64 if spec.solver == "insr" else DTYPES[precision or spec.precision]
    findings = Findings(scene.document)
    bodies = make_bodies(scene, findings)
    findings.stop_if_any()
    grid = make_grid(spec, findings) if spec.solver == "mpm" else solid_grid(spec, bodies, findings)
    findings.stop_if_any()
    assert grid is not None
    x0 = torch.as_tensor(np.concatenate([b.x for b in bodies]))
    v0 = torch.as_tensor(np.concatenate([b.v for b in bodies]))
    model = make_model(scene, grid, bodies, dtype).to(device)
    x, v = (t.to(dtype=dtype, device=device) for t in (x0, v0))
    try:
        solver = _solver(scene, model, bodies, x, v)
    except SceneError:
        raise
    except InputError as error:
        raise scene.error(("bodies",), str(error)) from None
    try:
        state = solver.initial_state()
    except SimulationError as error:
        raise scene.error(("field",), str(error)) from None
    dt, every, frames = time_steps(scene, solver, state, v0)
    placement = Placement.of(spec.placement)
    cameras = {name: placement.camera(c) for name, c in make_cameras(scene).items()}
    note_views(cameras, x0, findings)
    told = tuple(findings.warnings)
    built = Built(scene, model, solver, state, dt, frames * every, every, tuple(bodies), x0, cameras, told, placement)
    if spec.pose is None or (spec.pose.static and not hang):
        return built
    return _rested(built) if spec.pose.observe is None else posed(built, make_gauges(built)[spec.pose.observe])


def _rested(built: Built) -> Built:
    try:
        return rested(built)[0]
    except SimulationError as error:
        raise built.scene.error(("pose",), str(error)) from None


def make_model(scene: Scene, grid: Grid, bodies: Sequence[BodyParticles], dtype: torch.dtype) -> Model:
    """The model of a scene; one material per name, one range per body."""
    spec = scene.spec
    used = [n for n in scene.materials if any(b.material == n for b in bodies)]
    ranges, start = [], 0
    for body in bodies:
        ranges.append(Body(start, start + len(body.x), used.index(body.material), body.name))
        start += len(body.x)
    walls, planes = make_walls(spec, grid)
    vol0 = torch.as_tensor(np.concatenate([b.vol0 for b in bodies]), dtype=dtype)
    try:
        return Model(
            grid,
            vol0,
            [make_material(scene.materials[n]) for n in used],
            bodies=ranges,
            gravity=Placement.of(spec.placement).acceleration(torch.tensor(padded(spec.gravity), dtype=torch.float64)),
            walls=walls,
            colliders=[*planes, *make_colliders(spec)],
        )
    except InputError as error:
        raise scene.error(("walls",), str(error)) from None


def _solver(scene: Scene, model: Model, bodies: list[BodyParticles], x: torch.Tensor, v: torch.Tensor) -> Any:
    spec = scene.spec
    if spec.solver == "solid":
        from physim.solvers.solid.loads import PointLoad
        from physim.solvers.solid.solver import SolverSolid

        loads = [
            PointLoad(padded(p.position), p.mass, padded(p.force or (0.0, 0.0)), name) for name, p in spec.loads.items()
        ]
        return SolverSolid(model, x, v, loads=loads)
    if spec.solver == "insr":
        from physim.scene.build_field import field_solver

        return field_solver(scene, model, bodies, x)
    from physim.solvers.mpm.solver import SolverMPM

    floor = spec.grid.mass_floor if spec.grid is not None else 0.0
    blend, volume_filter = spec.blend or 0.0, spec.volume_filter or 0.0
    return SolverMPM(model, x, v, mass_floor=floor, blend=blend, volume_filter=volume_filter)


def time_steps(scene: Scene, solver: Any, state: Any, v0: torch.Tensor) -> tuple[float, int, int]:
    """Substep [s], substeps per frame, and frames.

    Raises:
        StabilityError: the scene's own dt is beyond the limit.
    """
    time = scene.spec.time
    assert time is not None
    frame = time.frame if time.frame is not None else time.duration / 100.0
    frames = round(time.duration / frame)
    limit = solver.stable_dt(state)
    if isinstance(time.dt, float):
        try:
            check_dt(time.dt, limit)
        except StabilityError as error:
            raise StabilityError(f"{scene.where(('time', 'dt'))}: time.dt: {error}") from None
        return time.dt, round(frame / time.dt), frames
    if scene.spec.solver == "mpm":
        limit = min(limit, COURANT * solver.model.grid.dx / max(_fastest(scene, solver.model, v0), 1e-300))
    if not limit > 0 or not math.isfinite(limit):
        limit = frame
    limit *= min((reach_share(m) for m in solver.model.materials), default=1.0)
    dt, every = substep_size(frame, limit)
    return dt, every, frames


def _fastest(scene: Scene, model: Model, v0: torch.Tensor) -> float:
    """A speed [m/s] that the scene may reach: the start, a fall through the whole grid, and the colliders."""
    grid = model.grid
    size = [grid.dx * (n - 1) for n in grid.shape]
    fall = math.sqrt(2.0 * sum(abs(g) * s for g, s in zip(padded(scene.spec.gravity), size, strict=True)))
    drop = min(fall, math.hypot(*scene.spec.gravity) * (scene.spec.time.duration if scene.spec.time else 0.0))
    pushed = max((_speed(c) for c in model.colliders), default=0.0)
    return max(float(v0.norm(dim=1).max()) + drop, pushed)


def _speed(collider: Collider) -> float:
    """The largest speed [m/s] of a collider's origin."""
    frames = collider.keyframes
    pieces = [math.dist(a, b) / (later - time) for (time, a), (later, b) in pairwise(frames)]
    return max([*pieces, 0.0 if frames else math.hypot(*collider.velocity)])
