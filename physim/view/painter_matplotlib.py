"""Pictures where VTK cannot draw: shaded disks, sorted from back to front, by the Agg canvas."""

from __future__ import annotations

from typing import Any

import numpy as np

from physim.shapes.shape import Array
from physim.view.camera import Camera
from physim.view.files import Image
from physim.view.ground import Ground
from physim.view.recording import Obstacle
from physim.view.surfaces import section_of, surface_of

_DPI = 100.0
_EDGE, _LINE = "#9aa5b1", "#dde3e9"


class PainterMatplotlib:
    """Draws frames of one scene with one camera; the same calls as the VTK painter."""

    def __init__(
        self,
        *,
        size: tuple[int, int],
        camera: Camera,
        dim: int,
        bounds: Array,
        domain: Array | None,
        obstacles: tuple[Obstacle, ...],
        ground: Ground | None,
        spacing: float,
    ) -> None:
        self._size, self._camera, self._dim = size, camera, dim
        self._bounds, self._domain, self._obstacles = bounds, domain, obstacles
        self._ground, self._spacing = ground, spacing

    def draw(self, points: Array, rgb: Image, frame: int) -> Image:
        """One picture, (H, W, 3) uint8; arguments as for the VTK painter."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        width, height = self._size
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        self._surroundings(axes, frame)
        at, scale, depth = self._camera.project(points, self._size)
        order = np.argsort(-depth)
        near, far = (float(depth.min()), float(depth.max())) if len(depth) else (0.0, 1.0)
        shade = 1.0 - 0.35 * (depth - near) / max(far - near, 1e-12) if self._dim == 3 else np.ones(len(depth))
        colors = np.clip(rgb / 255.0 * shade[:, None], 0.0, 1.0)
        diameters = 1.16 * self._spacing * scale * 72.0 / _DPI
        axes.scatter(
            at[order, 0],
            at[order, 1],
            s=np.maximum(diameters[order], 0.7) ** 2,
            c=colors[order],
            linewidths=0.0,
            zorder=3,
        )
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()

    def close(self) -> None:
        """Nothing to free: each frame has its own figure."""

    def _surroundings(self, axes: Any, frame: int) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        if self._ground is not None:
            axes.add_collection(LineCollection(self._grid_lines(self._ground), colors=_LINE, linewidths=0.8, zorder=0))
        if self._domain is not None:
            axes.add_collection(LineCollection(self._box_lines(self._domain), colors=_EDGE, linewidths=1.0, zorder=1))
        for obstacle in self._obstacles:
            if self._dim == 2:
                rim = section_of(obstacle.shape, self._bounds)
                vertices = np.column_stack([rim, np.zeros(len(rim))])
                faces = [tuple(range(len(rim)))] if len(rim) else []
            else:
                surface = surface_of(obstacle.shape, self._bounds)
                vertices, faces = surface.vertices, surface.faces
            if not faces:
                continue
            if obstacle.poses is not None:
                pose = np.asarray(obstacle.poses[frame], dtype=float)
                vertices = vertices @ pose[:3, :3].T + pose[:3, 3]
            at, _, depth = self._camera.project(vertices, self._size)
            faces = sorted(faces, key=lambda face: -float(depth[list(face)].mean()))
            opacity = obstacle.opacity if self._dim == 2 else 0.35 * obstacle.opacity
            polygons = [at[list(face)] for face in faces]
            axes.add_collection(PolyCollection(polygons, facecolors=obstacle.color, alpha=opacity, zorder=2))

    def _box_lines(self, domain: Array) -> list[Array]:
        low, high = domain
        corners = np.array([[x, y, z] for z in (low[2], high[2]) for y in (low[1], high[1]) for x in (low[0], high[0])])
        edges = np.array([(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1])
        return list(self._camera.project(corners, self._size)[0][edges])

    def _grid_lines(self, ground: Ground) -> list[Array]:
        """The ground's lines, cut to two thirds so that all of it lies before the camera."""
        reach = ground.reach / 3.0
        steps = np.arange(-np.floor(reach / ground.cell), np.floor(reach / ground.cell) + 1) * ground.cell
        ends = np.array([[[s, -reach], [s, reach]] for s in steps] + [[[-reach, s], [reach, s]] for s in steps])
        world = ground.center + ends[..., :1] * ground.first + ends[..., 1:] * ground.second
        return list(self._camera.project(world.reshape(-1, 3), self._size)[0].reshape(-1, 2, 2))
