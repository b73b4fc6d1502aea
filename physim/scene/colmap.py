"""Cameras in the text files of a COLMAP reconstruction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from physim.scene.camera_files import CORNER, UNDISTORT, Array, FileError, Lens, Posed, choose

CAMERAS, IMAGES = "cameras.txt", "images.txt"

# COLMAP's models: how its parameters give fx, fy, cx, cy and the distortion.
MODELS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}


def read_colmap(folder: Path, image: str | None) -> Posed:
    """One image of a COLMAP reconstruction in text.

    Args:
        folder: with cameras.txt and images.txt.
        image: name of the image, or its last part; may be left out where there is one.

    Raises:
        FileError: with the entry of the scene that is to be corrected.
    """
    for name in (CAMERAS, IMAGES):
        if not (folder / name).is_file():
            binary = (folder / name).with_suffix(".bin").is_file()
            hint = " Turn the .bin files into text: `colmap model_converter --output_type TXT`." if binary else ""
            raise FileError("colmap", f"no {name} in {folder}.{hint}")
    rows = list(_image_rows(folder / IMAGES))
    line, words = rows[choose("image", image, [words[9] for _, words in rows], IMAGES)]
    where = f"{IMAGES}:{line}"
    pose = np.eye(4)
    pose[:3, :3] = rotation_of([_float(w, where) for w in words[1:5]], where)
    pose[:3, 3] = [_float(w, where) for w in words[5:8]]
    return Posed(_colmap_lens(folder / CAMERAS, words[8], where), pose)


def _image_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and words of the images; each is followed by a line, perhaps an empty one, with its points."""
    points = False
    for number, line in _lines(path):
        if line.startswith("#"):
            continue
        if points:
            points = False
            continue
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            told = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
            raise FileError("colmap", f"{path.name}:{number}: expected `{told}`, got {len(words)} words.")
        yield number, [*words[:9], words[9].strip()]
        points = True


def _colmap_lens(path: Path, wanted: str, where: str) -> Lens:
    for number, line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] != wanted:
            continue
        at = f"{path.name}:{number}"
        model = words[1] if len(words) > 1 else ""
        if model not in MODELS:
            told = f"{at}: the model {model} is not supported, only {', '.join(MODELS)}; {UNDISTORT}"
            raise FileError("colmap", told)
        names = MODELS[model]
        if len(words) != 4 + len(names):
            told = f"{model} has WIDTH HEIGHT {' '.join(names).upper()}, got {len(words) - 2} numbers"
            raise FileError("colmap", f"{at}: {told}.")
        given = dict(zip(names, (_float(w, at) for w in words[4:]), strict=True))
        fx, fy = given.get("fx", given.get("f", 0.0)), given.get("fy", given.get("f", 0.0))
        k1, k2, p1, p2 = (given.get(k, 0.0) for k in ("k1", "k2", "p1", "p2"))
        size = (round(_float(words[2], at)), round(_float(words[3], at)))
        return Lens(fx, fy, given["cx"] - CORNER, given["cy"] - CORNER, (k1, k2, p1, p2, 0.0), size)
    raise FileError("colmap", f"{where}: its camera {wanted} is not in {path.name}.")


def rotation_of(quaternion: Sequence[float], where: str) -> Array:
    """The rotation, (3, 3), of a quaternion w, x, y, z, which is normalised."""
    q = np.array(quaternion, dtype=np.float64)
    length = float(np.linalg.norm(q))
    if not abs(length - 1.0) < 1e-2:
        raise FileError("colmap", f"{where}: the quaternion has length {length:.4g}, expected 1.")
    w, x, y, z = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _float(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FileError("colmap", f"{where}: expected a number, got '{word}'.")
    return value


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and lines of a text file."""
    try:
        with path.open(encoding="utf-8") as stream:
            yield from enumerate(stream, start=1)
    except (OSError, UnicodeDecodeError) as error:
        raise FileError("colmap", f"{path.name} cannot be read as text: {error}.") from None
