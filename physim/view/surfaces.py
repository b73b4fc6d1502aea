"""Faces of a shape for drawing: polygons in space, or the outline of its section in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physim.errors import InputError
from physim.shapes import Box, Cylinder, Mesh, Plane, Polygon, Shape, Sphere
from physim.shapes.shape import Array

_SEGMENTS = 72


@dataclass(frozen=True, eq=False)
class Surface:
    """Vertices [m], (k, 3), and faces as tuples of vertex indices (simple polygons, not always convex)."""

    vertices: Array
    faces: list[tuple[int, ...]]


def surface_of(shape: Shape, around: Array) -> Surface:
    """The surface of a shape in 3D.

    Args:
        shape: any of the shapes.
        around: lower and upper corner of the scene [m], (2, 3), which bound an infinite plane.
    """
    if isinstance(shape, Mesh):
        vertices, triangles = shape.surface
        return Surface(vertices, [tuple(int(i) for i in t) for t in triangles])
    if isinstance(shape, Plane):
        return _plane_patch(shape, around)
    if isinstance(shape, Sphere):
        import trimesh

        ball = trimesh.creation.icosphere(subdivisions=4, radius=shape.radius)
        return Surface(np.asarray(ball.vertices) + shape.origin, [tuple(int(i) for i in t) for t in ball.faces])
    if isinstance(shape, Box):
        low, high = shape.local_bounds
        rim = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
        bottom, top = low[2], high[2]
    elif isinstance(shape, Cylinder):
        rim = shape.radius * _circle()
        bottom, top = shape.local_bounds[:, 2]
    elif isinstance(shape, Polygon):
        rim = np.asarray(shape.corners)
        bottom, top = shape.local_bounds[:, 2]
    else:
        raise InputError(f"cannot draw a {type(shape).__name__}; allowed: Box, Sphere, Cylinder, Plane, Polygon, Mesh.")
    return _prism(rim, float(bottom), float(top), shape)


def section_of(shape: Shape, around: Array) -> Array:
    """Outline of a shape's section in the xy plane [m], (k, 2), anticlockwise or clockwise."""
    if isinstance(shape, Plane):
        return _half_plane(shape, around)
    if isinstance(shape, Polygon):
        return np.asarray(shape.corners)
    if isinstance(shape, (Sphere, Cylinder)):
        return shape.radius * _circle() + shape.origin[:2]
    if isinstance(shape, Box):
        low, high = shape.local_bounds
        rim = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
        return rim @ shape.frame[:2, :2].T + shape.origin[:2]
    raise InputError(f"cannot draw the section of a {type(shape).__name__}; a mesh belongs to a 3D scene.")


def _circle() -> Array:
    angle = 2.0 * np.pi * np.arange(_SEGMENTS) / _SEGMENTS
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _prism(rim: Array, bottom: float, top: float, shape: Shape) -> Surface:
    """A rim (k, 2) between two heights of the shape's frame."""
    k = len(rim)
    local = np.concatenate([np.column_stack([rim, np.full(k, z)]) for z in (bottom, top)])
    sides = [(i, (i + 1) % k, k + (i + 1) % k, k + i) for i in range(k)]
    caps = [tuple(range(k - 1, -1, -1)), tuple(range(k, 2 * k))]
    return Surface(local @ shape.frame.T + shape.origin, [*caps, *sides])


def _plane_patch(plane: Plane, around: Array) -> Surface:
    """A square of the plane, centred on the scene and twice as wide."""
    normal = np.array(plane.normal)
    center = around.mean(axis=0)
    center = center - normal * float(normal @ (center - plane.origin))
    first = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    reach = float(np.linalg.norm(around[1] - around[0]))
    corners = [center + reach * (a * first + b * second) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return Surface(np.array(corners), [(0, 1, 2, 3)])


def _half_plane(plane: Plane, around: Array) -> Array:
    """The part of the scene's rectangle behind the plane (clipped against one line)."""
    low, high = around[0, :2], around[1, :2]
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    depth = (corners - plane.origin[:2]) @ np.array(plane.normal[:2])
    kept = []
    for i in range(4):
        j = (i + 1) % 4
        if depth[i] <= 0.0:
            kept.append(corners[i])
        if depth[i] * depth[j] < 0.0:
            kept.append(corners[i] + (corners[j] - corners[i]) * depth[i] / (depth[i] - depth[j]))
    return np.array(kept).reshape(-1, 2)
