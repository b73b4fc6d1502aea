"""Cameras in a transforms.json of nerfstudio, instant-ngp or Blender."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from physim.scene.camera_files import (
    CORNER,
    UNDISTORT,
    Array,
    FileError,
    Lens,
    Posed,
    choose,
    inverse,
    nearest_rotation,
)
from physim.scene.units import shown

LARGEST_FILE = 64_000_000

# Cameras look along -z with y up in OpenGL, along z with y down in OpenCV.
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])

MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


def read_transforms(path: Path, frame: str | None, size: tuple[int, int] | None) -> Posed:
    """One frame of a transforms.json of nerfstudio, instant-ngp or Blender.

    What nerfstudio did to the world (`applied_scale`, then `applied_transform`) is undone: poses are in the world of
    the reconstruction that it started from.

    Args:
        path: the file.
        frame: `file_path` of the frame, or its last part; may be left out where there is one.
        size: width and height [px], for files that tell an angle only.

    Raises:
        FileError: with the entry of the scene that is to be corrected.
    """
    data = _json(path)
    frames = data.get("frames")
    if not isinstance(frames, list) or not all(isinstance(f, dict) for f in frames):
        raise FileError("file", f"{path.name} has no list of `frames`; is it a transforms.json?")
    names = [str(f.get("file_path", "")) for f in frames]
    chosen = frames[choose("frame", frame, names, path.name)]
    where = f"{path.name}, frame '{chosen.get('file_path', '')}'"
    lens = _transforms_lens({**data, **chosen}, where, size)
    pose = _matrix(chosen.get("transform_matrix"), f"{where}: transform_matrix", (3, 4))
    if "applied_scale" in data:
        pose[:3, 3] /= _number(data, "applied_scale", path.name, least=0.0)
    if "applied_transform" in data:
        applied = _matrix(data["applied_transform"], f"{path.name}: applied_transform", (3, 4))
        applied[:3, :3] = nearest_rotation(applied[:3, :3], f"{path.name}: applied_transform")
        pose = inverse(applied) @ pose
    pose[:3, :3] = nearest_rotation(pose[:3, :3], f"{where}: transform_matrix")
    return Posed(lens, inverse(pose @ FLIP))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FileError("file", f"{path.name} is too large for a file of cameras.")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise FileError("file", f"{path.name}:{error.lineno}: not JSON: {error.msg}.") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise FileError("file", f"{path.name} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise FileError("file", f"{path.name}: expected a mapping with `frames`, got {shown(data)}.")
    return data


def _transforms_lens(data: dict[str, Any], where: str, size: tuple[int, int] | None) -> Lens:
    """The lens of a frame, from its own entries or the shared ones."""
    model = str(data.get("camera_model", "OPENCV")).upper()
    if model not in MODELS:
        raise FileError("file", f"{where}: camera_model {model} is not supported; {UNDISTORT}")
    if data.get("is_fisheye") or data.get("k4"):
        raise FileError("file", f"{where}: a fisheye lens, or k4, is not supported; {UNDISTORT}")
    given = None
    if "w" in data and "h" in data:
        width, height = (_number(data, key, where, least=0.5) for key in ("w", "h"))
        given = (round(width), round(height))
    if given is None and size is None:
        raise FileError("file", f"{where}: says no picture size (w, h); give the camera `size: [width, height]`.")
    lens_size = given or size
    assert lens_size is not None
    focal: dict[str, float] = {}
    for axis, across in (("x", lens_size[0]), ("y", lens_size[1])):
        if f"fl_{axis}" in data:
            focal[axis] = _number(data, f"fl_{axis}", where, least=0.0)
        elif f"camera_angle_{axis}" in data:
            angle = _number(data, f"camera_angle_{axis}", where, least=0.0)
            if angle >= math.pi:
                raise FileError("file", f"{where}: camera_angle_{axis} is in radians and below pi, got {angle:g}.")
            focal[axis] = 0.5 * across / math.tan(0.5 * angle)
    if not focal:
        raise FileError(
            "file",
            f"{where}: says no focal length, which is `fl_x` [px] or `camera_angle_x` [rad], in the frame or for all; "
            "add it to the file, or type the camera in with `matrix` and `intrinsics`.",
        )
    center = [_number(data, key, where) - CORNER if key in data else None for key in ("cx", "cy")]
    k1, k2, p1, p2, k3 = (_number(data, k, where) if k in data else 0.0 for k in ("k1", "k2", "p1", "p2", "k3"))
    fx, fy = focal.get("x"), focal.get("y")
    return Lens(fx or fy or 0.0, fy or fx or 0.0, center[0], center[1], (k1, k2, p1, p2, k3), given)


def _matrix(value: Any, where: str, rows: tuple[int, ...]) -> Array:
    """4 x 4 from rows of four numbers; a last row that is missing is 0, 0, 0, 1."""
    try:
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.ndim != 2 or found.shape[1:] != (4,) or len(found) not in rows:
        wanted = " or ".join(str(n) for n in rows)
        raise FileError("file", f"{where}: expected {wanted} rows of 4 numbers, got {shown(value)}.")
    if not np.isfinite(found).all():
        raise FileError("file", f"{where}: holds what is no finite number.")
    return np.vstack([found, [[0.0, 0.0, 0.0, 1.0]]]) if len(found) == 3 else found


def _number(data: dict[str, Any], key: str, where: str, least: float | None = None) -> float:
    value = data[key]
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or (least is not None and not value > least):
        wanted = "a number" if least is None else "a positive number"
        raise FileError("file", f"{where}: {key}: expected {wanted}, got {shown(value)}.")
    return float(value)
