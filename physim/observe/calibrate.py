"""Lens and pose of a camera from pictures of a target of known size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.targets import Array, Sighting

FEWEST = 3
"""Pictures from which a lens can be found at all."""
ENOUGH = 8
"""Pictures from which it is found well."""

# A view that fits so much worse than the others, and worse than a pixel's fraction, was blurred or misread.
_OUTLIER, _PIXEL = 3.0, 0.5
# A focal length that is known no better than this was not in the pictures.
_VAGUE = 0.05
# Share of the picture, across and down, that corners should reach.
_REACHED = 0.6
# Two poses of a flat target whose errors differ by less than this factor cannot be told apart.
_ALIKE = 1.5
# Ratios of width to height that differ by less are the same.
_SHAPE = 0.01

LENS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")


@dataclass(frozen=True, eq=False)
class Calibration:
    """A camera that was found.

    Attributes:
        views: the camera in the pose of every picture that was used.
        sightings: what was seen in these pictures.
        error: root mean square distance between corners seen and computed [px].
        errors: the same of every picture [px].
        deviations: standard deviations of what was found of the lens, by name; empty where it was known.
        notes: what the user should know.
    """

    views: tuple[PixelCamera, ...]
    sightings: tuple[Sighting, ...]
    error: float
    errors: tuple[float, ...]
    deviations: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def camera(self) -> PixelCamera:
        """The camera in the pose of the last picture."""
        return self.views[-1]

    @property
    def corners(self) -> int:
        """How many corners were used."""
        return sum(len(s.pixels) for s in self.sightings)


def calibrate(sightings: Sequence[Sighting]) -> Calibration:
    """Focal lengths, optical axis and distortion (k1, k2, p1, p2) from several views of a board.

    Args:
        sightings: of one camera with one focal length.

    Raises:
        InputError: too few views, views of different sizes, or views that do not say how wide the camera sees.
    """
    if len(sightings) < FEWEST:
        raise InputError(
            f"the board is seen in {len(sightings)} picture{'s' * (len(sightings) != 1)}; a lens takes at least "
            f"{FEWEST}, and is found well from {ENOUGH} or more: from several sides, tilted by 20 to 45 degrees, near "
            "the edges too. For the pose alone, from one picture, name a known lens with --camera."
        )
    sizes = {s.size for s in sightings}
    if len(sizes) > 1:
        told = ", ".join(f"{w} x {h}" for w, h in sorted(sizes))
        raise InputError(f"the pictures have different sizes ({told}); take those of one camera in one mode.")
    used = list(sightings)
    found = _lens(used)
    limit = max(_OUTLIER * float(np.median(found.errors)), _PIXEL)
    good = [s for s, e in zip(used, found.errors, strict=True) if e <= limit]
    dropped = len(used) - len(good)
    if dropped and len(good) >= FEWEST:
        found, used = _lens(good), good
    else:
        dropped = 0
    vague = found.deviations["fx"] / found.camera.fx
    if not vague < _VAGUE:
        raise InputError(
            f"the focal length is known to {100 * min(vague, 9.99):.0f} % only: the {len(used)} views are too alike. "
            "Take pictures in which the board is tilted, by 20 to 45 degrees, about different axes."
        )
    return replace(found, notes=tuple(_notes(found, dropped)))


def place(sighting: Sighting, lens: PixelCamera) -> Calibration:
    """The pose of a camera whose lens is known, from one view of a target.

    Args:
        sighting: a board or a marker in one picture.
        lens: a camera in any pose, for pictures of the same shape.

    Raises:
        InputError: the picture has another shape, or no pose fits.
    """
    import cv2

    width, height = sighting.size
    if abs(width * lens.height / (height * lens.width) - 1.0) > _SHAPE:
        raise InputError(
            f"{sighting.name} is {width} x {height} pixels, and the lens was found for {lens.width} x {lens.height}: "
            "another shape is another crop of the sensor. Calibrate with pictures of the same mode."
        )
    camera = lens.scaled(width, height)
    focal, bend = _matrices(camera)
    points, pixels = np.ascontiguousarray(sighting.points), np.ascontiguousarray(sighting.pixels)
    views, errors = [], []
    try:
        _, turns, shifts, _ = cv2.solvePnPGeneric(points, pixels, focal, bend, flags=cv2.SOLVEPNP_IPPE)
        for turn, shift in zip(turns, shifts, strict=True):
            turn, shift = cv2.solvePnPRefineLM(points, pixels, focal, bend, turn, shift)
            views.append(replace(camera, world_to_camera=_pose(turn, shift)))
            errors.append(_error(views[-1], sighting))
    except (cv2.error, InputError):
        # A refinement that ends behind the camera, or nowhere, is no pose; the other one may be.
        pass
    if not errors or not math.isfinite(min(errors)):
        raise InputError(f"{sighting.name}: no pose of the camera explains the corners seen; is the target flat?")
    best, *others = np.argsort(errors).tolist()
    notes = []
    if others and errors[others[0]] < _ALIKE * max(errors[best], 1e-3):
        turned = _angle(views[best], views[others[0]])
        if turned > 1.0:
            notes.append(
                f"two poses, {turned:.0f} degrees apart, explain the corners almost equally well "
                f"({errors[best]:.2f} and {errors[others[0]]:.2f} px): the target is small or far. Look at the axes in "
                "the picture, and take a larger target, or a board."
            )
    return Calibration((views[best],), (sighting,), errors[best], (errors[best],), {}, tuple(notes))


def _lens(sightings: list[Sighting]) -> Calibration:
    import cv2

    points = [s.points.astype(np.float32) for s in sightings]
    pixels = [s.pixels.astype(np.float32) for s in sightings]
    size = sightings[0].size
    try:
        _, focal, bend, turns, shifts = cv2.calibrateCamera(
            points, pixels, size, np.eye(3), np.zeros(5), flags=cv2.CALIB_FIX_K3
        )
        k1, k2, p1, p2 = (float(k) for k in np.asarray(bend).reshape(-1)[:4])
        fx, fy, cx, cy = (float(focal[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        views = tuple(
            PixelCamera(_pose(t, s), fx, fy, cx, cy, *size, (k1, k2, p1, p2, 0.0))
            for t, s in zip(turns, shifts, strict=True)
        )
        errors = [_error(view, s) for view, s in zip(views, sightings, strict=True)]
    except (cv2.error, InputError):
        raise InputError(
            f"no lens explains the corners of the {len(sightings)} pictures. Are the size of the board and its "
            "dictionary right, and was the board flat?"
        ) from None
    error = math.sqrt(float(np.average(np.square(errors), weights=[len(s.pixels) for s in sightings])))
    return Calibration(views, tuple(sightings), error, tuple(errors), _deviations(views, sightings))


def _deviations(views: Sequence[PixelCamera], sightings: Sequence[Sighting]) -> dict[str, float]:
    """Standard deviations of the lens, by the Gauss-Newton matrix with the poses free.

    OpenCV's own stay small where a focal length is not determined at all, as by views that are not tilted.
    """
    import cv2

    lens, squares, count = np.zeros((len(LENS), len(LENS))), 0.0, 0
    for view, sighting in zip(views, sightings, strict=True):
        focal, bend = _matrices(view)
        turn = cv2.Rodrigues(view.world_to_camera[:3, :3].numpy())[0]
        shift = view.world_to_camera[:3, 3].numpy()
        seen, slopes = cv2.projectPoints(np.ascontiguousarray(sighting.points), turn, shift, focal, bend)
        squares += float(np.square(np.asarray(seen).reshape(-1, 2) - sighting.pixels).sum())
        count += 2 * len(sighting.pixels)
        # Columns of OpenCV: turn, shift, fx, fy, cx, cy, k1, k2, p1, p2, k3.
        by_pose, by_lens = np.asarray(slopes)[:, :6], np.asarray(slopes)[:, 6 : 6 + len(LENS)]
        own, *_ = np.linalg.lstsq(by_pose, by_lens, rcond=None)
        left = by_lens - by_pose @ own
        lens += left.T @ left
    scale = 1.0 / np.sqrt(np.maximum(np.diag(lens), 1e-300))
    values, axes = np.linalg.eigh(scale[:, None] * lens * scale)
    spread = np.square(axes) @ (1.0 / np.maximum(values, 1e-15))
    noise = squares / max(1, count - len(LENS) - 6 * len(views))
    return dict(zip(LENS, (np.sqrt(noise * spread) * scale).tolist(), strict=True))


def _notes(found: Calibration, dropped: int) -> list[str]:
    """What is allowed, and could be better."""
    notes = []
    if dropped:
        told = "1 picture, blurred or misread, fits" if dropped == 1 else f"{dropped} pictures, blurred or misread, fit"
        notes.append(f"{told} far worse than the others; left out.")
    if len(found.views) < ENOUGH:
        notes.append(f"{len(found.views)} pictures are few; {ENOUGH} or more, tilted about different axes, are better.")
    pixels = np.concatenate([s.pixels for s in found.sightings])
    camera = found.camera
    across, down = (pixels.max(axis=0) - pixels.min(axis=0)) / (camera.width, camera.height)
    if min(across, down) < _REACHED:
        notes.append(
            f"corners were seen in {100 * across:.0f} % of the width and {100 * down:.0f} % of the height of the "
            "picture; the distortion outside of that is a guess. Hold the board near the edges too."
        )
    ends = torch.tensor([[u, v] for u in (0.0, camera.width - 1.0) for v in (0.0, camera.height - 1.0)]).double()
    try:
        camera.rays(ends)
    except InputError as error:
        notes.append(f"the corners of the picture cannot be used: {error}")
    return notes


def _matrices(camera: PixelCamera) -> tuple[Array, Array]:
    """OpenCV's camera matrix, (3, 3), and distortion, (5,)."""
    focal = np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
    return focal, np.array(camera.distortion)


def _pose(turn: Any, shift: Any) -> torch.Tensor:
    """The pose, (4, 4), of OpenCV's rotation vector and shift [m], three numbers each."""
    import cv2

    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.as_tensor(cv2.Rodrigues(np.asarray(turn, dtype=np.float64))[0])
    pose[:3, 3] = torch.as_tensor(np.asarray(shift, dtype=np.float64).reshape(3))
    return pose


def _error(camera: PixelCamera, sighting: Sighting) -> float:
    pixels, _ = camera.project(torch.as_tensor(sighting.points))
    return float((pixels - torch.as_tensor(sighting.pixels)).square().sum(dim=1).mean().sqrt())


def _angle(one: PixelCamera, other: PixelCamera) -> float:
    """Angle between two orientations [deg]."""
    turn = one.world_to_camera[:3, :3] @ other.world_to_camera[:3, :3].T
    return math.degrees(math.acos(min(1.0, max(-1.0, 0.5 * (float(turn.trace()) - 1.0)))))
