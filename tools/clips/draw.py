"""Clean pictures of a simulation by VTK: colour, coverage and depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyvista as pv
from scipy.ndimage import gaussian_filter, map_coordinates

from tools.clips.case import SIZE, Case, Eye
from tools.clips.simulate import Motion
from tools.clips.skin import REST, surfaces

FINER = 4
"""Samples along each side of a pixel."""
GRAIN = 5e-3
"""Size of the spots of a body's texture [m]."""


@dataclass(frozen=True)
class Pictures:
    """What one camera sees of the bodies alone.

    Attributes:
        color: times coverage, from 0 to 255, (frames, h, w, 3) uint8.
        cover: share of each pixel that is body, from 0 to 255, (frames, h, w) uint8.
        depth: along the camera's axis at the middle of a pixel [m], NaN where no body is, (frames, h, w) float32.
    """

    color: np.ndarray[Any, Any]
    cover: np.ndarray[Any, Any]
    depth: np.ndarray[Any, Any]


def draw(case: Case, motion: Motion) -> dict[str, Pictures]:
    """The pictures of every camera, by its name."""
    plotter = pv.Plotter(off_screen=True, window_size=(FINER * SIZE, FINER * SIZE))
    plotter.enable_lightkit()
    drawn: dict[str, list[tuple[Any, Any, Any]]] = {name: [] for name in case.eyes}
    for frame in range(len(motion.x)):
        plotter.clear_actors()
        for k, surface in enumerate(surfaces(motion, case.skin, frame)):
            surface["color"] = _texture(np.asarray(surface[REST]), case.colors[k], seed=k)
            plotter.add_mesh(surface, scalars="color", rgb=True, ambient=0.35, diffuse=0.65, smooth_shading=False)
        for name, eye in case.eyes.items():
            _look(plotter, eye)
            drawn[name].append(_shot(plotter))
    plotter.close()
    return {name: Pictures(*(np.stack(part) for part in zip(*shots, strict=True))) for name, shots in drawn.items()}


def _look(plotter: Any, eye: Eye) -> None:
    camera = plotter.camera
    camera.parallel_projection = False
    camera.position, camera.focal_point, camera.up = eye.at, eye.target, (0.0, 1.0, 0.0)
    camera.view_angle = eye.angle
    plotter.reset_camera_clipping_range()
    plotter.render()


def _shot(plotter: Any) -> tuple[Any, Any, Any]:
    """Colour times coverage, coverage, depth of the picture as it is."""
    fine = plotter.screenshot(transparent_background=True, return_img=True).astype(np.float64)
    alpha = fine[..., 3:] / 255.0
    depth = -np.asarray(plotter.get_image_depth(fill_value=np.nan), dtype=np.float32)
    middle = depth[FINER // 2 :: FINER, FINER // 2 :: FINER]
    color, cover = _averaged(fine[..., :3] * alpha), _averaged(255.0 * alpha)[..., 0]
    return color.round().astype(np.uint8), cover.round().astype(np.uint8), middle


def _averaged(image: Any) -> Any:
    h, w, k = image.shape
    return image.reshape(h // FINER, FINER, w // FINER, FINER, k).mean(axis=(1, 3))


def _texture(rest: Any, color: tuple[int, int, int], *, seed: int) -> Any:
    """Spotted colours at places of the body, (n, 3) uint8."""
    rng = np.random.default_rng(seed)
    light = gaussian_filter(rng.normal(size=(64, 64, 64)), 1.0, mode="wrap")
    at = (rest / GRAIN).T
    spots = map_coordinates(light / light.std(), at, order=1, mode="grid-wrap")
    return np.clip(np.array(color) * (1.0 + 0.22 * spots[:, None]), 0, 255).astype(np.uint8)
