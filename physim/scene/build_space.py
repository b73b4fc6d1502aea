"""Scene entries about space to the grid, shapes, walls and colliders of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from physim.scene.fields import padded
from physim.scene.problems import Findings
from physim.scene.spec import ScenePart
from physim.scene.spec_space import SIDES, BoxPart, ColliderPart, MeshPart, WallPart
from physim.shapes import Box, Cylinder, Mesh, Plane, Polygon, Shape, Sphere, distance_field
from physim.shapes.shape import rotation_matrix
from physim.sim.model import Collider, ColliderKind, Contact, Grid, Wall, WallKind

if TYPE_CHECKING:
    from physim.scene.build_bodies import BodyParticles

# A coordinate that differs from a whole number of cells by less than this is taken as whole.
WHOLE = 1e-6

CONTACTS = {
    "stick": Contact.STICK,
    "slip": Contact.SLIP,
    "coulomb": Contact.COULOMB,
    "bilateral": Contact.BILATERAL,
}
MIRRORS = {"mirror_slip": WallKind.SLIP, "mirror_no_slip": WallKind.NO_SLIP}


def domain(spec: ScenePart) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Lower and upper corner of the region where material may be [m]."""
    grid = spec.grid
    assert grid is not None and grid.origin is not None
    low = padded(grid.origin)
    if grid.upper is not None:
        return low, padded(grid.upper)
    size = padded(grid.size or (0.0, 0.0, 0.0))
    return low, (low[0] + size[0], low[1] + size[1], low[2] + size[2])


def make_grid(spec: ScenePart, findings: Findings) -> Grid | None:
    """The background grid: the domain, plus `margin` nodes on each side that is not periodic.

    A wall that only pushes lies on nodes, for which the grid is moved by less than a cell: how far from it bodies are
    held depends on where it is in a cell.
    """
    grid = spec.grid
    assert grid is not None
    low, high = domain(spec)
    origin, shape, sound = [], [], True
    for axis in range(spec.dim):
        cells = (high[axis] - low[axis]) / grid.dx
        whole = round(cells)
        if whole < 1 or abs(cells - whole) > WHOLE * max(1.0, cells):
            up = max(1, math.ceil(cells))
            end = f"`{'upper' if grid.upper is not None else 'size'}`"
            value = low[axis] + up * grid.dx if grid.upper is not None else up * grid.dx
            findings.add(
                ("grid", "upper" if grid.upper is not None else "size"),
                f"the domain is {cells:.6g} cells of {grid.dx:g} m long on {'xyz'[axis]}; a whole number is needed. "
                f"Try {value:.8g} m for {'xyz'[axis]} of {end}",
            )
            sound = False
        periodic = "xyz"[axis] in grid.periodic
        moved = 0.0 if periodic or not grid.on_walls else _to_wall(spec, axis, low[axis])
        origin.append(low[axis] - (0.0 if periodic else (grid.margin + moved) * grid.dx))
        shape.append(whole if periodic else whole + 1 + 2 * grid.margin + (moved > 0.0))
    if not sound:
        return None
    if spec.dim == 2:
        origin.append(0.0)
        shape.append(1)
    around = ["xyz"[a] in grid.periodic and a < spec.dim for a in range(3)]
    return Grid((origin[0], origin[1], origin[2]), grid.dx, (shape[0], shape[1], shape[2]), (*around,))  # type: ignore[arg-type]


def _to_wall(spec: ScenePart, axis: int, low: float) -> float:
    """Part of a cell by which nodes are moved down for a wall on that axis to lie on some; the lower wall's first."""
    assert spec.grid is not None
    walls = [wall for side, wall in walls_of(spec).items() if side[0] == "xyz"[axis]]
    if any(wall.type in MIRRORS for wall in walls):
        return 0.0
    # The lower side comes first; a face of the domain lies on nodes anyway.
    at = walls[0].position if walls and walls[0].position is not None else low
    part = -(at - low) / spec.grid.dx % 1.0
    return part if WHOLE < part < 1.0 - WHOLE else 0.0


def make_shape(part: Any) -> Shape:
    """The shape of an entry that holds one."""
    given = part.shape_part
    if isinstance(given, BoxPart):
        return _box(given)
    if isinstance(given, MeshPart):
        cut = None if given.cut is None else (padded(given.cut.point), padded(given.cut.normal))
        moved, turned = padded(given.translation or (0.0, 0.0)), padded(given.rotation or (0.0, 0.0))
        return Mesh(given.file, given.scale, moved, turned, cut)
    if part.kind == "sphere":
        return Sphere(given.center, given.radius)
    if part.kind == "cylinder":
        return Cylinder(given.center, given.radius, given.height, given.axis)
    if part.kind == "polygon":
        return Polygon(given.corners, given.depth, given.z)
    return Plane(given.point, given.normal)


def _box(part: BoxPart) -> Box:
    if part.lower is not None and part.upper is not None:
        box = Box.from_bounds(part.lower, part.upper)
    else:
        assert part.center is not None and part.size is not None
        box = Box(part.center, part.size)
    return box if part.rotation is None else Box(box.center, box.size, padded(part.rotation))


def walls_of(spec: ScenePart) -> dict[str, WallPart]:
    """The wall of each side that has one; `all` fills the sides of axes that are not periodic."""
    periodic = spec.grid.periodic if spec.grid else ()
    found = {}
    for side in SIDES[: 2 * spec.dim]:
        own = getattr(spec.walls, side)
        wall = own or (spec.walls.all if side[0] not in periodic else None)
        if wall is not None and wall.type != "open":
            found[side] = wall
    return found


def solid_grid(spec: ScenePart, bodies: Sequence[BodyParticles], findings: Findings) -> Grid | None:
    """The reference grid of the solid solver: the bodies' box, whose faces lie midway between nodes.

    Where the scene gives no `origin` the box of the bodies is taken, and grown to whole cells at its upper end.
    """
    grid = spec.grid
    assert grid is not None
    if grid.origin is None:
        bounds = np.array([b.shape.bounds for b in bodies])
        low, high = bounds[:, 0].min(axis=0), bounds[:, 1].max(axis=0)
    else:
        low, high = (np.array(c) for c in domain(spec))
    cells = np.maximum(1, np.ceil((high - low) / grid.dx - WHOLE)).astype(int)
    beyond = max(grid.margin, 2) - 0.5
    origin = low - beyond * grid.dx
    shape = cells + 2 * max(grid.margin, 2)
    if spec.dim == 2:
        origin[2], shape[2] = 0.0, 1
    for body in bodies:
        outside = (body.x < low - WHOLE * grid.dx) | (body.x > low + (cells + WHOLE) * grid.dx)
        if outside[:, : spec.dim].any():
            findings.add(("bodies", body.name, "shape"), "lies outside the grid; leave out grid.origin to fit it")
    (x, y, z), (i, j, k) = (float(c) for c in origin), (int(c) for c in shape)
    return Grid((x, y, z), grid.dx, (i, j, k))


def wall_bounds(spec: ScenePart, grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where walls stand unless they say otherwise [m]: the faces of the domain."""
    if spec.grid is not None and spec.grid.origin is not None:
        return domain(spec)
    beyond = (max(spec.grid.margin, 2) - 0.5 if spec.grid else 0.5) * grid.dx
    return tuple(c + beyond for c in grid.origin), tuple(c - beyond for c in grid.upper)


def make_walls(spec: ScenePart, grid: Grid) -> tuple[list[Wall], list[Collider]]:
    """Mirrored walls, and planes for the walls that push only."""
    low, high = wall_bounds(spec, grid)
    walls, planes = [], []
    for side, part in walls_of(spec).items():
        axis, upper = "xyz".index(side[0]), side.endswith("max")
        at = part.position if part.position is not None else (high if upper else low)[axis]
        velocity = padded(part.velocity or (0.0, 0.0))
        if part.type in MIRRORS:
            walls.append(Wall(axis, upper, at, MIRRORS[part.type], velocity))
            continue
        point, normal = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        normal[axis] = -1.0 if upper else 1.0
        point[axis] = at
        contact = CONTACTS[part.type]
        options: dict[str, Any] = {"contact": contact, "friction": part.friction, "velocity": velocity}
        planes.append(Collider.plane(point, normal, name=side, **options))
    return walls, planes


def make_colliders(spec: ScenePart) -> list[Collider]:
    """Colliders and clamps, in the order of the file."""
    dx = spec.grid.dx if spec.grid is not None else None
    found = [collider_of(name, part, dx) for name, part in spec.colliders.items()]
    for name, part in spec.clamps.items():
        held = ColliderPart.model_construct(
            **{n: getattr(part, n) for n in ("box", "sphere")}, contact="stick", velocity=part.velocity
        )
        found.append(collider_of(name, held, dx))
    return found


def collider_of(name: str, part: ColliderPart, dx: float | None) -> Collider:
    """One collider; a mesh is tabulated at half of the grid spacing `dx` [m], or left out without one."""
    options: dict[str, Any] = {
        "contact": CONTACTS[part.contact],
        "friction": part.friction,
        "velocity": padded(part.velocity or (0.0, 0.0)),
        "spin": padded(part.spin or (0.0, 0.0)),
        "keyframes": tuple((k.time, padded(k.position)) for k in part.keyframes),
        "name": name,
    }
    if part.plane is not None:
        return Collider.plane(padded(part.plane.point), padded(part.plane.normal), **options)
    if part.box is not None:
        box = _box(part.box)
        half = tuple(0.5 * s for s in box.size)
        turned = _rows(rotation_matrix(box.rotation))
        return Collider(ColliderKind.BOX, half, padded(tuple(box.center)), turned, **options)  # type: ignore[arg-type]
    if part.sphere is not None:
        r = part.sphere.radius
        size = (r, r, r)
        return Collider(ColliderKind.SPHERE, size, padded(part.sphere.center), **options)
    assert part.mesh is not None
    field = None if dx is None else distance_field(Mesh(part.mesh.file, part.mesh.scale), 0.5 * dx)
    turned = _rows(rotation_matrix(padded(part.mesh.rotation or (0.0, 0.0))))
    at = padded(part.mesh.translation or (0.0, 0.0))
    return Collider(ColliderKind.MESH, (0.0, 0.0, 0.0), at, turned, distances=field, **options)


def _rows(matrix: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(r[0]), float(r[1]), float(r[2])) for r in matrix)
