"""Drawn masks of convex bodies, from points on their surface, as cameras see them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from physim.observe.camera import PixelCamera
from physim.observe.contour import piece_of
from physim.observe.outlined import View
from physim.shapes.rings import chords
from physim.shapes.shape import rotation_matrix

Array = np.ndarray[Any, Any]
FINE = 16


def drawn(camera: PixelCamera, points: Array) -> Array:
    """Coverage of the convex body around points [m], (n, 3), in a camera's picture, (h, w) uint8."""
    pixels = camera.project(torch.as_tensor(points))[0].numpy()
    rim = cv2.convexHull(pixels.astype(np.float32))[:, 0].astype(np.float64)
    # Rows are cut FINE times each, and covered exactly along their length: OpenCV's filling would add an edge.
    w, h = camera.width, camera.height
    left, right = (np.nan_to_num(x, nan=0.0) for x in chords(rim, (np.arange(FINE * h) + 0.5) / FINE - 0.5))
    u = np.arange(w) - 0.5
    share = np.clip(np.minimum(right[:, None], u + 1.0) - np.maximum(left[:, None], u), 0.0, 1.0)
    return (255.0 * share.reshape(h, FINE, w).mean(axis=1)).round().astype(np.uint8)


def ball(radius: float, center: Any = (0.0, 0.0, 0.0), count: int = 40_000) -> Array:
    """Points on a sphere [m]."""
    i = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * i / count, np.pi * (1.0 + 5.0**0.5) * i
    flat = np.sqrt(1.0 - z**2)
    return radius * np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1) + np.array(center)


def cube(side: float, center: Any = (0.0, 0.0, 0.0), rotation: Any = (0.0, 0.0, 0.0)) -> Array:
    """Corners of a cube [m]."""
    corners = 0.5 * side * np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 0.5 * side
    return corners @ rotation_matrix(rotation).T + np.array(center)


EGG = (0.04, 0.008, 0.05)
"""Of an egg: radius at half height, how much less of it at the top and more at the bottom, half of the height [m]."""


def egg(center: Any = (0.0, 0.0, 0.0), count: int = 40_000) -> Array:
    """Points on an egg: a ball of height y in [-1, 1], stretched, whose circles grow downwards [m]."""
    x = ball(1.0, count=count)
    radius, slope, half = EGG
    wide = radius - slope * x[:, 1]
    return np.stack([wide * x[:, 0], half * x[:, 1], wide * x[:, 2]], axis=1) + np.array(center)


def egg_volume() -> float:
    """Pi half times the integral of (1 - y^2) (radius - slope y)^2 over y from -1 to 1 [m^3]."""
    radius, slope, half = EGG
    return float(np.pi * half * (radius**2 * 4 / 3 + slope**2 * 4 / 15))


def view(camera: PixelCamera, points: Array) -> View:
    """What a camera sees of a convex body."""
    return View(camera, piece_of(drawn(camera, points)))
