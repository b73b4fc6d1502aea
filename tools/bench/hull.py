"""How well bodies are read off drawn pictures: volume and outline of slabs, bodies of revolution, and visual hulls.

The pictures are of 256 x 256 pixels, in which a body is about 150 wide: parallel cameras from the front, the right and
above, and cameras with perspective 0.6 m away. "volume" is that of what was read over the true one, less 1. "outline"
is the intersection over union of the mask with the silhouette of what was read, in the first camera.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from physim.observe.camera import PixelCamera
from physim.observe.hull import Cone, visual_hull
from physim.observe.outlined import View, slab, turned
from physim.shapes import Shape
from physim.shapes.rings import rings_distance
from tools.bench.drawn import ball, cube, egg, egg_volume, view

PIXELS = 256
SIDES = (((0, 0, 1), (0, 1, 0)), ((1, 0, 0), (0, 1, 0)), ((0, 1, 0), (0, 0, -1)))
"""From where cameras look at the origin, and what is up in their pictures."""
STRIDE, STEPS = 3, 120
"""Pixels between the rays that draw a silhouette, and points on each."""


def cameras(*, perspective: bool) -> list[PixelCamera]:
    """The three cameras."""
    if perspective:
        eyes = [np.array(eye) * 0.6 for eye, _ in SIDES]
        pairs = zip(eyes, SIDES, strict=True)
        return [PixelCamera.look_at(e, (0, 0, 0), PIXELS, PIXELS, np.deg2rad(16.0), up) for e, (_, up) in pairs]
    ways = [((-x, -y, -z), up) for (x, y, z), up in SIDES]
    return [PixelCamera.side_view(0.65e-3, PIXELS, PIXELS, (0, 0, 0), way, up) for way, up in ways]


def overlap(seen: View, shape: Shape) -> float:
    """Intersection over union of an outline and the silhouette of a shape in the same camera [-]."""
    left, top, right, bottom = seen.piece.box
    u, v = np.meshgrid(np.arange(left - 8.0, right + 9.0, STRIDE), np.arange(top - 8.0, bottom + 9.0, STRIDE))
    pixels = np.stack([u.ravel(), v.ravel()], axis=1)
    inside = rings_distance(pixels, seen.piece.rings) < 0.0
    eyes, ways = seen.rays(pixels)
    low, high = shape.bounds
    reach = 0.5 * float(np.linalg.norm(high - low))
    along = ((0.5 * (low + high) - eyes) * ways).sum(axis=1)[:, None] + np.linspace(-reach, reach, STEPS)
    x = eyes[:, None] + along[..., None] * ways[:, None]
    drawn = (shape.signed_distance(x.reshape(-1, 3)).reshape(along.shape) < 0.0).any(axis=1)
    return float((inside & drawn).sum() / (inside | drawn).sum())


def rows() -> Any:
    """Name of a body, of a way to read it, volume error [-], overlap [-], seconds."""
    turn = (0.35, 0.6, 0.2)
    bodies = {
        "ball": (ball(0.05), 4 / 3 * np.pi * 0.05**3, 0.1),
        "cube": (cube(0.09), 0.09**3, 0.09),
        "turned cube": (cube(0.07, rotation=turn), 0.07**3, 0.07),
        "egg": (egg(), egg_volume(), 0.08),
    }
    for name, (points, volume, depth) in bodies.items():
        for perspective in (False, True):
            views = [view(c, points) for c in cameras(perspective=perspective)]
            ways = {
                f"slab of {1e3 * depth:.0f} mm": lambda v=views, d=depth: slab(v[0], d, at=(0, 0, 0)),
                "revolved": lambda v=views: turned(v[0], (0, 1, 0), (0, 0, 0))[0],
                "hull of 2": lambda v=views: visual_hull([Cone("", o) for o in v[:2]]).shape,
                "hull of 3": lambda v=views: visual_hull([Cone("", o) for o in v]).shape,
            }
            for way, make in ways.items():
                start = time.perf_counter()
                shape = make()
                spent = time.perf_counter() - start
                kind = "perspective" if perspective else "parallel"
                yield name, kind, way, shape.volume / volume - 1.0, overlap(views[0], shape), spent


def main() -> int:
    """Measure and print."""
    print("| body | cameras | read as | volume | outline | time |\n|---|---|---|---|---|---|")
    for name, kind, way, volume, outline, spent in rows():
        print(f"| {name} | {kind} | {way} | {100 * volume:+.1f} % | {outline:.3f} | {spent:.2f} s |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
