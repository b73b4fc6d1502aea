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


def view(camera: PixelCamera, points: Array) -> View:
    """What a camera sees of a convex body."""
    return View(camera, piece_of(drawn(camera, points)))
