"""A scene with `solver: insr`: its one body as a field, elastic or a flow."""

from __future__ import annotations

import numpy as np
import torch

from physim.errors import InputError
from physim.laws import Material
from physim.scene.build_bodies import BodyParticles
from physim.scene.fields import padded
from physim.scene.loader import Scene
from physim.scene.problems import SceneError
from physim.scene.spec_space import SIDES, BoxPart, FieldPart
from physim.scene.stream import stream_velocity
from physim.sim.model import ColliderKind, Contact, Model, Wall, WallKind
from physim.solvers.insr.adam import Descent
from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import Linear, Mirrored, Moved, Walled
from physim.solvers.insr.fields import Box, Field, Fourier, Gaussians, Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.project import Projection
from physim.solvers.insr.solver import Settings, SolverInsr

BODY = {"siren": (24, 3.0), "fourier": (12, 2.0), "gaussians": (80, 1.5)}
FLOW = {"siren": (28, 5.0), "fourier": (14, 3.0), "gaussians": (180, 1.5)}
"""Width and frequency (for Gaussians: width in mean distances) unless given."""
FLUSH = 1e-6
"""Share of the body's size within which a wall lies on its face."""


def field_solver(scene: Scene, model: Model, bodies: list[BodyParticles], x: torch.Tensor) -> SolverInsr:
    """The weight-space solver of a scene.

    Raises:
        SceneError: more than one body, a shape other than a box along the axes, walls or a material that the solver
            does not know.
    """
    (body,), spec = bodies, scene.spec
    part = spec.bodies[body.name]
    given = part.shape.shape_part
    if not isinstance(given, BoxPart) or any(given.rotation or ()):
        raise scene.error(("bodies", body.name, "shape"), "`solver: insr` needs a box along the axes")
    low, high = (tuple(float(c) for c in corner[: spec.dim]) for corner in body.shape.bounds)
    box, material = Box(low, high), model.materials[0]
    assert isinstance(material, Material)
    try:
        if material.inelastic is not None and material.inelastic.name == "fluid":
            return _flow(scene, model, body, material, box, x)
        return _elastic(scene, model, body, material, box, x)
    except SceneError:
        raise
    except InputError as error:
        raise scene.error(("materials", body.material), str(error)) from None


def _flow(scene: Scene, model: Model, body: BodyParticles, material: Material, box: Box, x: torch.Tensor) -> SolverInsr:
    part = scene.spec.bodies[body.name]
    if scene.spec.dim != 2:
        raise scene.error(("dim",), "flows with `solver: insr` are in the plane: dim: 2")
    if any(part.velocity or ()) or part.spin is not None:
        raise scene.error(("bodies", body.name), "a flow between walls begins with `stream`, not with velocity or spin")
    for collider in model.colliders:
        told = f"'{collider.name}': a flow with `solver: insr` knows mirror_slip and mirror_no_slip walls only"
        raise scene.error(("walls" if collider.name in SIDES else "colliders", collider.name), told)
    sticky = np.zeros((2, 2), dtype=bool)
    for wall in _flush(scene, model, box):
        if any(wall.velocity):
            raise scene.error(("walls",), "walls of a flow stand still with `solver: insr`")
        sticky[wall.axis, int(wall.high)] = wall.kind is WallKind.NO_SLIP
    problem = Flow(material)
    if problem.viscous and bool((sticky[:, 0] != sticky[:, 1]).any()):
        raise scene.error(("walls",), "both walls of an axis must be slip, or both no-slip, for a viscous flow")
    slip = tuple(axis for axis in range(2) if not sticky[axis].any())
    # A viscous flow needs the stress at slippery walls too, which mirrors tell; others need not be alike behind them.
    mirrored = slip if problem.viscous else ()
    own = _field(scene.spec.field, Box((-1.0, -1.0), (1.0, 1.0)) if mirrored else box, 1, FLOW, False)
    powers = tuple((0, 0) if a in mirrored else (1 + int(sticky[a, 0]), 1 + int(sticky[a, 1])) for a in range(2))
    field = Walled(Mirrored(own, box, mirrored) if mirrored else own, box, powers)
    return SolverInsr(
        problem,
        field,
        box,
        model=model,
        settings=_settings(scene.spec.field),
        begin=lambda at: stream_velocity(part.stream, box.lower, box.upper, at),
        X=x,
    )


def _elastic(
    scene: Scene, model: Model, body: BodyParticles, material: Material, box: Box, x: torch.Tensor
) -> SolverInsr:
    part, dim = scene.spec.bodies[body.name], scene.spec.dim
    field = _field(scene.spec.field, box, dim, BODY, True)
    walls = _flush(scene, model, box)
    for wall in walls:
        powers = tuple((int(a == wall.axis and not wall.high), int(a == wall.axis and wall.high)) for a in range(dim))
        field = Walled(field, box, powers, held=tuple(_held(wall, dim)))
    for wall in walls:
        if any(wall.velocity):
            field = _moving(scene, field, box, wall, walls)
    for collider in model.colliders:
        path = ("walls" if collider.name in SIDES else "colliders", collider.name)
        if collider.contact is not Contact.SLIP:
            raise scene.error(path, "`solver: insr` knows contact: slip")
        if collider.kind not in (ColliderKind.PLANE, ColliderKind.SPHERE):
            raise scene.error(path, "`solver: insr` knows planes and spheres")
    v = torch.tensor(padded(part.velocity or (0.0, 0.0)), dtype=torch.float64)[:dim]
    if part.spin is not None or part.stream:
        raise scene.error(("bodies", body.name), "a body begins with a `velocity` only with `solver: insr`")
    problem = Body(
        material,
        box,
        gravity=lambda: model.gravity,
        velocity=(lambda at: v.expand(len(at), dim)) if bool(v.any()) else None,
        obstacles=model.colliders,
    )
    return SolverInsr(problem, field, box, settings=_settings(scene.spec.field), model=model, X=x)


def _held(wall: Wall, dim: int) -> set[int]:
    """Axes along which a wall holds a body: a wall without friction across only."""
    return set(range(dim)) if wall.kind is WallKind.NO_SLIP else {wall.axis}


def _moving(scene: Scene, field: Field, box: Box, wall: Wall, walls: list[Wall]) -> Field:
    """A field whose side at a wall goes with it."""
    moved = {a for a in _held(wall, box.dim) if wall.velocity[a]}
    for other in walls:
        if other.axis != wall.axis and moved & _held(other, box.dim):
            raise scene.error(
                ("walls", _side(wall), "velocity"),
                f"the wall would tear the body from '{_side(other)}', which holds it too: make that one mirror_slip",
            )
    velocity = torch.tensor([wall.velocity[a] if a in moved else 0.0 for a in range(box.dim)], dtype=torch.float64)
    return Moved(field, box, wall.axis, wall.high, lambda t: velocity * t)


def _side(wall: Wall) -> str:
    return f"{'xyz'[wall.axis]}_{'max' if wall.high else 'min'}"


def _flush(scene: Scene, model: Model, box: Box) -> list[Wall]:
    """Mirrored walls, which must lie on faces of the body."""
    for wall in model.walls:
        face = (box.upper if wall.high else box.lower)[wall.axis]
        if abs(wall.position - face) > FLUSH * max(box.size):
            raise scene.error(
                ("walls", _side(wall)),
                f"a mirrored wall holds the face of the body at {face:.6g} m with `solver: insr`, and lies at "
                f"{wall.position:.6g} m; give it that position, or make it push only (`slip`)",
            )
    return list(model.walls)


def _settings(part: FieldPart | None) -> Settings | None:
    if part is None or part.optimizer == "gauss_newton":
        return None
    return Settings(projection=Projection(adam=Descent()))


def _field(part: FieldPart | None, box: Box, outputs: int, usual: dict[str, tuple[int, float]], linear: bool) -> Field:
    part = part or FieldPart()
    width, frequency = part.width or usual[part.basis][0], part.frequency or usual[part.basis][1]
    if part.basis == "siren":
        field: Field = Siren(box, width, part.depth, frequency, outputs)
    elif part.basis == "fourier":
        field = Fourier(box, width, frequency, 2 * width, part.depth, outputs)
    else:
        field = Gaussians(box, width, frequency, outputs)
    return Linear(field) if (linear if part.linear is None else part.linear) else field
