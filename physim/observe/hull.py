"""The visual hull: what lies inside the outlines of all cameras at once.

Each outline and its camera make a cone in which the body lies. Its signed distance is that of the outline in the
picture, interpolated, in metres at a point's depth; the hull's is the largest over the cones. Where a body curves
inwards, and where no camera sees its edge, the hull is larger than the body; it is never smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch

from physim.errors import InputError
from physim.observe.outlined import View
from physim.shapes.field import DistanceField
from physim.shapes.rings import rings_distance
from physim.shapes.tabulated import Tabulated

Array = np.ndarray[Any, np.dtype[np.float64]]

# Lines of sight nearer to each other than this leave the depth of a body open [deg].
_ALIKE = 15.0
# Nodes of the grid unless a spacing is given, and at most.
_NODES, _MOST = 5e5, 3e7
# Nodes around the hull; lattice points along the longer side of an outline's box; pixels around that box.
_MARGIN, _LATTICE, _AROUND = 2, 160, 3.0
# Farther than this, in lengths of the outlines' largest, a hull does not end.
_FAR = 50.0
# Points of an outline whose lines of sight are followed, and steps along each, to see whether they meet the hull.
_FOLLOWED, _STEPS = 800, 160


@dataclass(frozen=True, eq=False)
class Hull:
    """A visual hull and how well the cameras agree.

    Attributes:
        shape: the solid.
        filled: share of each outline that the hull covers when it is seen by the same camera [-]; 1 unless the cameras,
            or the times of their pictures, contradict each other.
    """

    shape: Tabulated
    filled: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Slab:
    """A bound on the direction that no camera sees: half a thickness to either side of a point.

    Attributes:
        point: middle [m], (3,).
        along: direction of the thickness [-], (3,).
        thickness: [m].
    """

    point: Array
    along: Array
    thickness: float

    def distance(self, x: Array) -> Array:
        """Signed distance [m], (n, 3) -> (n,)."""
        return np.abs((x - self.point) @ self.along) - 0.5 * self.thickness


class Cone:
    """What an outline and its camera leave open.

    Args:
        name: of the video, for messages.
        view: what was seen.
    """

    def __init__(self, name: str, view: View) -> None:
        self.name, self.view = name, view
        left, top, right, bottom = view.piece.box
        self._step = max(1.0, max(right - left, bottom - top) / _LATTICE)
        self._low = np.floor([left - _AROUND, top - _AROUND])
        count = np.ceil((np.array([right, bottom]) + _AROUND - self._low) / self._step).astype(int) + 1
        u, v = (self._low[a] + self._step * np.arange(count[a]) for a in range(2))
        points = np.stack(np.meshgrid(u, v, indexing="ij"), axis=-1).reshape(-1, 2)
        self._table = rings_distance(points, view.piece.rings).reshape(tuple(count))

    @property
    def sides(self) -> tuple[Array, Array]:
        """Planes around the cone, normals outwards: a x <= b; (m, 3) and (m,) [m]."""
        left, top, right, bottom = self.view.piece.box
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        eyes, ways = self.view.rays(corners)
        after = np.roll(np.arange(4), -1)
        normals = np.cross(ways, ways[after] if not self.view.camera.parallel else eyes[after] - eyes)
        ahead = self.view.sight[1]
        if self.view.camera.parallel:
            normals = np.cross(eyes[after] - eyes, ahead)
        inner = eyes.mean(axis=0) + (0.0 if self.view.camera.parallel else 1.0) * ways.mean(axis=0)
        normals *= np.sign(np.einsum("ij,ij->i", normals, eyes - inner))[:, None]
        normals /= np.linalg.norm(normals, axis=1)[:, None]
        bounds = np.einsum("ij,ij->i", normals, eyes)
        if not self.view.camera.parallel:
            normals, bounds = np.vstack([normals, -ahead]), np.append(bounds, -float(ahead @ eyes[0]))
        return normals, bounds

    def distance(self, x: Array) -> Array:
        """Signed distance to the cone's surface, no larger than the true one [m], (n, 3) -> (n,)."""
        camera = self.view.camera
        with torch.no_grad():
            points = torch.as_tensor(x)
            local = camera.to_camera(points).numpy()
            front = np.ones(len(x), dtype=bool) if camera.parallel else local[:, 2] > 1e-3 * np.abs(local[:, 2]).max()
            pixels = camera.project(points[torch.as_tensor(front)])[0].numpy()
        depth = local[front, 2]
        # A cone's surface is nearer than its cut across the optical axis.
        scale = 1.0 if camera.parallel else depth**2 / np.linalg.norm(local[front], axis=1)
        found = np.full(len(x), np.abs(local).max() + 1.0)
        found[front] = self._pixels(pixels) * scale / max(camera.fx, camera.fy)
        return found

    def _pixels(self, at: Array) -> Array:
        """Interpolated distance to the outline [px], (n, 2) -> (n,)."""
        scaled = (at - self._low) / self._step
        most = np.array(self._table.shape) - 1.0
        inside = np.clip(scaled, 0.0, most)
        base = np.minimum(inside.astype(np.int64), most.astype(np.int64) - 1)
        (i, j), (a, b) = base.T, (inside - base).T
        t = self._table
        low = (1 - a) * t[i, j] + a * t[i + 1, j]
        high = (1 - a) * t[i, j + 1] + a * t[i + 1, j + 1]
        return (1 - b) * low + b * high + self._step * np.linalg.norm(scaled - inside, axis=1)


def prior(views: Sequence[View], thickness: float, at: Sequence[float] | None = None) -> Slab:
    """A slab of a thickness across the mean line of sight.

    Args:
        views: what was seen.
        thickness: [m].
        at: middle of the slab [m], (3,); the middle plane of the first camera unless given, if that is parallel.

    Raises:
        InputError: cameras with perspective and no `at`, or cameras that see the body from all around.
    """
    ways = np.array([v.sight[1] for v in views])
    widest = angle_between(ways)
    if widest > 90.0 - _ALIKE:
        raise InputError(
            f"lines of sight {widest:.0f} degrees apart already bound the body on all sides; leave `thickness` out."
        )
    ways = ways * np.sign(ways @ ways[0])[:, None]
    along = ways.sum(axis=0)
    return Slab(views[0].middle(at), along / np.linalg.norm(along), thickness)


def angle_between(ways: Array) -> float:
    """The largest angle between lines along unit vectors, (k, 3) [deg], at most 90."""
    return math.degrees(math.acos(min(1.0, float(np.abs(ways @ ways.T).min()))))


def visual_hull(cones: Sequence[Cone], slab: Slab | None = None, resolution: float | None = None) -> Hull:
    """The visual hull of outlines.

    Args:
        cones: of one outline each.
        slab: bound on the direction that no camera sees.
        resolution: spacing of the grid [m]; that of the pixels unless given, or more where these are too many.

    Raises:
        InputError: cameras that leave a direction open, or that contradict each other; a grid too fine.
    """
    ways = np.array([c.view.sight[1] for c in cones])
    if slab is None and angle_between(ways) < _ALIKE:
        told = "one camera does" if len(cones) == 1 else f"cameras {angle_between(ways):.0f} degrees apart do"
        raise InputError(
            f"{told} not tell how deep the body is; add its `thickness`, or a camera that looks from another side."
        )
    bounds = _bounds(cones, slab)
    if bounds is None:
        raise InputError(_disagreement(cones, None))
    low, high = bounds
    spacing = _spacing(cones, low, high, resolution)
    shape = tuple(int(n) for n in np.ceil((high - low) / spacing).astype(int) + 1 + 2 * _MARGIN)
    origin = 0.5 * (low + high) - 0.5 * spacing * (np.array(shape) - 1.0)
    parts = [np.empty(shape) for _ in cones]
    values = np.full(shape, -np.inf)
    y, z = (origin[a] + spacing * np.arange(shape[a]) for a in (1, 2))
    for i in range(shape[0]):  # one layer at a time keeps the peak memory low
        x = np.stack(np.meshgrid([origin[0] + spacing * i], y, z, indexing="ij"), axis=-1).reshape(-1, 3)
        for cone, part in zip(cones, parts, strict=True):
            part[i] = cone.distance(x).reshape(shape[1:])
            np.maximum(values[i], part[i], out=values[i])
        if slab is not None:
            np.maximum(values[i], slab.distance(x).reshape(shape[1:]), out=values[i])
    if not (values < 0.0).any():
        raise InputError(_disagreement(cones, [float((p < 0.0).sum()) * spacing**3 for p in parts]))
    corner = (float(origin[0]), float(origin[1]), float(origin[2]))
    hull = Tabulated(DistanceField(corner, spacing, shape, values))  # type: ignore[arg-type]
    return Hull(hull, tuple(_filled(cone, hull) for cone in cones))


def _spacing(cones: Sequence[Cone], low: Array, high: Array, resolution: float | None) -> float:
    """Spacing of the grid [m]."""
    middle = 0.5 * (low + high)
    sizes = []
    for cone in cones:
        camera = cone.view.camera
        away = float(camera.to_camera(torch.as_tensor(middle))[2])
        sizes.append((1.0 if camera.parallel else away) / max(camera.fx, camera.fy))
    volume = float(np.prod(high - low))
    if resolution is None:
        return max(min(sizes), float(np.cbrt(volume / _NODES)))
    if volume / resolution**3 > _MOST:
        raise InputError(
            f"resolution: {resolution:g} m needs {volume / resolution**3:.2g} nodes, at most {_MOST:g}; a pixel is "
            f"{min(sizes):.2g} m wide, and nothing finer is seen."
        )
    return resolution


def _bounds(cones: Sequence[Cone], slab: Slab | None) -> tuple[Array, Array] | None:
    """Box around what the cones' planes leave [m], (3,) each, or None where that is nothing."""
    from scipy.optimize import linprog

    sides = [c.sides for c in cones]
    if slab is not None:
        reach = float(slab.along @ slab.point) + 0.5 * slab.thickness
        sides.append((np.stack([slab.along, -slab.along]), np.array([reach, slab.thickness - reach])))
    a, b = np.vstack([s[0] for s in sides]), np.concatenate([s[1] for s in sides])
    low, high = np.empty(3), np.empty(3)
    for axis, way in enumerate(np.eye(3)):
        for sign, out in ((1.0, low), (-1.0, high)):
            found = linprog(sign * way, A_ub=a, b_ub=b, bounds=[(None, None)] * 3)
            if found.status == 2:
                return None
            if found.status != 0:
                raise InputError(
                    "the cameras leave a direction open: the body could reach without end between their lines of "
                    "sight. Add its `thickness`, or a camera that looks from another side."
                )
            out[axis] = sign * float(found.fun)
    smallest, largest = float((high - low).min()), float((high - low).max())
    if largest > _FAR * smallest:
        raise InputError(
            f"the cameras look from nearly the same side: what they leave open is {largest:.3g} m long and "
            f"{smallest:.3g} m wide. Add the body's `thickness`, or a camera that looks from another side."
        )
    return low, high


def _filled(cone: Cone, hull: Tabulated) -> float:
    """Share of an outline whose lines of sight meet the hull [-]."""
    left, top, right, bottom = cone.view.piece.box
    u, v = np.meshgrid(np.linspace(left, right, 40), np.linspace(top, bottom, 40))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    pixels = pixels[rings_distance(pixels, cone.view.piece.rings) < -1.0]
    if not len(pixels):
        return 1.0
    pixels = pixels[:: math.ceil(len(pixels) / _FOLLOWED)]
    eyes, ways = cone.view.rays(pixels)
    low, high = hull.bounds
    reach = 0.5 * float(np.linalg.norm(high - low))
    middle = ((0.5 * (low + high) - eyes) * ways).sum(axis=1)
    along = middle[:, None] + np.linspace(-reach, reach, _STEPS)
    x = eyes[:, None] + along[..., None] * ways[:, None]
    slack = 0.5 * hull.field.spacing
    met = (hull.field.at(x.reshape(-1, 3)) < slack).reshape(along.shape).any(axis=1)
    return float(met.mean())


def _disagreement(cones: Sequence[Cone], volumes: Sequence[float] | None) -> str:
    """Why nothing is left: how far lines of sight miss each other, and what each camera alone would leave."""
    told = []
    for one, other in combinations(cones, 2):
        (a, u), (b, v) = one.view.sight, other.view.sight
        across = np.cross(u, v)
        length = float(np.linalg.norm(across))
        if length > 1e-9:
            told.append(f"those of '{one.name}' and '{other.name}' by {abs(float((b - a) @ across)) / length:.3g} m")
    text = "the cameras contradict each other: no point lies inside all outlines. "
    if told:
        text += f"The lines of sight through the middles of the outlines miss each other: {', '.join(told)}. "
    if volumes is not None:
        alone = ", ".join(f"'{c.name}' {v:.3g} m^3" for c, v in zip(cones, volumes, strict=True))
        text += f"In the box that they share, each outline alone leaves: {alone}. "
    return text + "Check the poses and the scale of the cameras, and that the pictures are of the same moment."
