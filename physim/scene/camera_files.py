"""What a file says of a camera, in OpenCV's convention: its lens, its pose, and which of many is meant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from physim.errors import InputError, nearest
from physim.observe.distortion import NONE, Coefficients

Array = np.ndarray[Any, np.dtype[np.float64]]

# nerfstudio and COLMAP count pixels from the corner of the picture: the middle of the first one is at 0.5, here at 0.
CORNER = 0.5

UNDISTORT = "undistort the pictures first (`colmap image_undistorter`, or cv2.undistort), which leaves a PINHOLE."


class FileError(InputError):
    """Something wrong with what an entry of a camera names.

    Attributes:
        key: the entry.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Lens:
    """What a picture is taken with; None where the file is silent.

    Attributes:
        fx, fy: focal lengths [px].
        cx, cy: pixel of the optical axis, in OpenCV's count.
        distortion: k1, k2, p1, p2, k3 [-].
        size: width and height [px].
    """

    fx: float
    fy: float
    cx: float | None = None
    cy: float | None = None
    distortion: Coefficients = NONE
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Posed:
    """A lens and where it is: rotation and shift from the file's world to the camera, (4, 4), in the file's units."""

    lens: Lens
    world_to_camera: Array


# Files have few digits: a matrix this close to a rotation was one.
ROUNDED = 1e-3


def nearest_rotation(matrix: Array, where: str, key: str = "file") -> Array:
    """The rotation, (3, 3), that a matrix in a file is but for rounding.

    Raises:
        FileError: it is none; says what it is instead.
    """
    left, stretches, right = np.linalg.svd(matrix)
    found = left @ right
    error = float(np.abs(matrix - found).max())
    mirrored = float(np.linalg.det(found)) < 0
    if error <= ROUNDED and not mirrored:
        return found
    if error <= ROUNDED:
        hint = "it mirrors (its determinant is -1), so one axis points the wrong way"
    elif stretches[2] > 0 and stretches[0] <= (1 + ROUNDED) * stretches[2]:
        hint = f"it is {stretches.mean():.6g} times a rotation; take that factor out of it"
    else:
        lengths = ", ".join(f"{v:.4g}" for v in np.linalg.norm(matrix, axis=0))
        hint = f"its columns have lengths {lengths}; they must have length 1 and be at right angles"
    raise FileError(key, f"{where}: the 3 x 3 on its left is not a rotation, by {error:.2g}: {hint}.")


def choose(key: str, wanted: str | None, names: list[str], file: str) -> int:
    """Index of the entry that a name means: all of it, its last part, or that without its ending."""
    if not names:
        raise FileError("file" if key == "frame" else "colmap", f"{file} lists no {key}.")
    if wanted is None:
        if len(names) == 1:
            return 0
        raise FileError(key, f"required, because {file} has {len(names)}, such as '{names[0]}'.")
    forms = [names, [PurePosixPath(n).name for n in names], [PurePosixPath(n).stem for n in names]]
    for form in forms:
        if form.count(wanted) == 1:
            return form.index(wanted)
        if form.count(wanted) > 1:
            raise FileError(key, f"{file} has {form.count(wanted)} named '{wanted}'; give the whole path.")
    hint = nearest(wanted, {*forms[0], *forms[1]})
    known = f" It has {len(names)}, from '{names[0]}' to '{names[-1]}'."
    raise FileError(key, f"{file} has no {key} '{wanted}'.{hint if 'Did you' in hint or len(names) < 6 else known}")


def moved(posed: Posed, scale: float, turn: Array, shift: Array) -> Posed:
    """The camera in a world that is scaled, turned, then moved: x_new = turn (scale x) + shift.

    Args:
        posed: in the units of its file.
        scale: new units per unit of the file, metres.
        turn: rotation, (3, 3).
        shift: [m], (3,).
    """
    pose = np.eye(4)
    pose[:3, :3] = posed.world_to_camera[:3, :3] @ turn.T
    pose[:3, 3] = scale * posed.world_to_camera[:3, 3] - pose[:3, :3] @ shift
    return replace(posed, world_to_camera=pose)


def inverse(pose: Array) -> Array:
    """The inverse of a rotation with a shift, (4, 4)."""
    back = np.eye(4)
    back[:3, :3] = pose[:3, :3].T
    back[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return back
