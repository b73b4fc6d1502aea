"""Essential conditions on the reference grid: mirrored planes, clamps, and the groups of nodes they tie together.

A spline is fixed exactly on a plane that is a knot line (midway between two nodes) or a node line when every node
beyond the plane mirrors a node before it: w_ghost = s * w_mirror + (1 - s) * V per component, with s = -1 for a
component that the plane holds, s = +1 for one it leaves free, and V the velocity of the plane there. Forces and
masses follow the same map, so that the constrained motion is the Lagrangian one and conserves energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physim.errors import InputError
from physim.sim.model import Collider, ColliderKind, Contact, Model, Wall, WallKind
from physim.solvers.solid.stencil import Stencil

# Planes and faces within this fraction of a cell of each other count as equal.
_CLOSE = 1e-4


@dataclass(frozen=True)
class Conditions:
    """The map from free nodal velocities to all of them.

    Attributes:
        leader: the node whose velocity each node follows (itself where free), (m,).
        sign: s above, per component, (m, 3).
        collider: the clamp that prescribes V, -1 for a wall or none, (m,).
        drift: (1 - s) * V of walls [m/s], (m, 3).
        first: where the nodes of each group begin in `members`, (g + 1,).
        members: nodes by group, its leader first, (m,).
    """

    leader: np.ndarray
    sign: np.ndarray
    collider: np.ndarray
    drift: np.ndarray
    first: np.ndarray
    members: np.ndarray

    @property
    def constrained(self) -> bool:
        """Whether any node is held."""
        return bool((self.sign != 1.0).any() or (self.leader != np.arange(len(self.leader))).any())

    def lumped(self, mass: np.ndarray) -> np.ndarray:
        """Inverse mass [1/kg] of each node's leader per component, zero where held, (m, 3)."""
        total = np.zeros((len(self.leader), 3))
        np.add.at(total, self.leader, self.sign**2 * mass[:, None])
        return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)[self.leader]


def find_conditions(model: Model, stencil: Stencil, X: np.ndarray) -> Conditions:
    """Walls and clamps of a model as conditions on the active nodes.

    Raises:
        InputError: a collider that is not a clamp, or material beyond a wall.
    """
    count = len(stencil.nodes)
    state = _Map(np.arange(count), np.ones((count, 3)), np.full(count, -1), np.zeros((count, 3)), _numbering(stencil))
    for wall in model.walls:
        _apply_wall(state, model, stencil, X, wall)
    for index, collider in enumerate(model.colliders):
        _apply_clamp(state, stencil, X, index, collider)
    order = np.lexsort((state.leader != np.arange(count), state.leader))
    _, starts = np.unique(state.leader[order], return_index=True)
    return Conditions(
        state.leader,
        state.sign,
        state.collider,
        state.drift,
        np.append(starts, count).astype(np.int32),
        order.astype(np.int32),
    )


@dataclass
class _Map:
    """Conditions while they are collected."""

    leader: np.ndarray
    sign: np.ndarray
    collider: np.ndarray
    drift: np.ndarray
    number: dict[tuple[int, ...], int]

    def mirror(self, node: int, source: int, s: np.ndarray, V: np.ndarray, collider: int) -> None:
        """Tie `node` to `source`, through whatever `source` is tied to itself."""
        if (self.sign[node] == 0).all():
            return
        self.leader[node] = self.leader[source]
        self.sign[node] = s * self.sign[source]
        self.drift[node] = s * self.drift[source] + (1.0 - s) * V
        if collider >= 0 or self.collider[source] >= 0:
            self.collider[node] = max(collider, int(self.collider[source]))
        if (self.sign[node] == 0).all():
            self.leader[node] = node

    def hold(self, node: int, free: np.ndarray, V: np.ndarray, collider: int) -> None:
        """Prescribe the components of `node` where `free` is 0."""
        self.sign[node] = self.sign[node] * free
        self.drift[node] = free * self.drift[node] + (1.0 - free) * V
        self.collider[node] = max(collider, int(self.collider[node]))


def _numbering(stencil: Stencil) -> dict[tuple[int, ...], int]:
    return {tuple(int(c) for c in node): i for i, node in enumerate(stencil.nodes)}


def _apply_wall(state: _Map, model: Model, stencil: Stencil, X: np.ndarray, wall: Wall) -> None:
    grid, axis = model.grid, wall.axis
    side = -1.0 if wall.high else 1.0
    beyond = side * (X[:, axis] - wall.position) < -_CLOSE * grid.dx
    if beyond.any():
        raise InputError(
            f"{int(beyond.sum())} of {len(X)} material points lie beyond the mirrored wall at {wall.position:.6g} m "
            f"on axis {'xyz'[axis]}; move the wall to the face of the body, or clamp a region with a box collider."
        )
    held = np.zeros(3, bool)
    held[axis] = True
    V = np.array(wall.velocity, float)
    V[axis] = 0.0
    if wall.kind == WallKind.NO_SLIP:
        held[:] = True
    else:
        V[:] = 0.0
    twice = round(2.0 * (wall.position - grid.origin[axis]) / grid.dx)
    _reflect(state, stencil, axis, twice, side, np.where(held, -1.0, 1.0), V, -1, np.ones(len(stencil.nodes), bool))


def _reflect(
    state: _Map,
    stencil: Stencil,
    axis: int,
    twice: int,
    side: float,
    s: np.ndarray,
    V: np.ndarray,
    collider: int,
    chosen: np.ndarray,
) -> None:
    """Mirror the chosen nodes beyond the plane at half-node index `twice`; hold those on it."""
    along = stencil.nodes[:, axis]
    for i in np.flatnonzero(chosen & (side * (2 * along - twice) < 0)):
        image = stencil.nodes[i].copy()
        image[axis] = twice - image[axis]
        source = state.number.get(tuple(int(c) for c in image))
        if source is None:
            # Nothing before the plane moves with this node: it follows the plane.
            state.hold(int(i), np.zeros(3), V, collider)
        else:
            state.mirror(int(i), source, s, V, collider)
    for i in np.flatnonzero(chosen & (2 * along == twice)):
        state.hold(int(i), np.where(s < 0, 0.0, 1.0), V, collider)


def _apply_clamp(state: _Map, stencil: Stencil, X: np.ndarray, index: int, collider: Collider) -> None:
    if collider.contact != Contact.STICK:
        raise InputError(
            f"collider '{collider.name}': the total-Lagrangian solid knows clamps (contact: stick) only, not contact "
            f"({collider.contact.name.lower()}). Use `solver: mpm` for bodies that touch obstacles."
        )
    if collider.kind == ColliderKind.MESH:
        raise InputError(f"collider '{collider.name}': a clamp must be a plane, a box or a sphere, not a mesh.")
    face = _flush_face(stencil, X, collider)
    if face is not None:
        axis, twice, side, across = face
        _reflect(state, stencil, axis, twice, side, np.full(3, -1.0), np.zeros(3), index, across)
        return
    inside = _depth(stencil.positions, collider) >= -_CLOSE * stencil.grid.dx
    if not inside.any():
        raise InputError(f"clamp '{collider.name}' holds no node of the body; move it, or make it larger than a cell.")
    for i in np.flatnonzero(inside):
        state.hold(int(i), np.zeros(3), np.zeros(3), index)


def _depth(points: np.ndarray, collider: Collider) -> np.ndarray:
    """How deep points [m] lie inside a collider at t = 0; negative outside."""
    q = (points - np.asarray(collider.position)) @ np.asarray(collider.rotation)
    if collider.kind == ColliderKind.PLANE:
        return -q[:, 2]
    if collider.kind == ColliderKind.SPHERE:
        return collider.size[0] - np.linalg.norm(q, axis=1)
    return (np.asarray(collider.size) - np.abs(q)).min(axis=1)


def _flush_face(stencil: Stencil, X: np.ndarray, collider: Collider) -> tuple[int, int, float, np.ndarray] | None:
    """The face of a plane or box against which the body lies flush, if it is a knot or node line of the grid.

    Returns:
        axis, half-node index of the face, +1 where the body lies above it, and which nodes the face covers.
    """
    grid = stencil.grid
    rotation, position = np.asarray(collider.rotation), np.asarray(collider.position)
    normals = [(2, 1.0)] if collider.kind == ColliderKind.PLANE else [(a, s) for a in range(3) for s in (1.0, -1.0)]
    if collider.kind == ColliderKind.SPHERE:
        return None
    for local, sign in normals:
        normal = sign * rotation[:, local]
        axis = int(np.argmax(np.abs(normal)))
        size = 0.0 if collider.kind == ColliderKind.PLANE else collider.size[local]
        place = float(position[axis] + size * normal[axis])
        side = float(np.sign(normal[axis]))
        code = 2.0 * (place - grid.origin[axis]) / grid.dx
        gap = side * (X[:, axis] - place)
        flush = gap.min() > -_CLOSE * grid.dx and gap.min() < grid.dx
        if axis >= grid.dim or abs(normal[axis]) < 1 - 1e-9 or abs(code - round(code)) > 2 * _CLOSE or not flush:
            continue
        foot = stencil.positions.copy()
        foot[:, axis] = place
        reach = 0.5 * grid.dx if collider.kind == ColliderKind.BOX else 0.0
        covered = _depth(foot, collider) >= -reach - _CLOSE * grid.dx
        return axis, round(code), side, covered
    return None
