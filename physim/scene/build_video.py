"""Scene entries about videos to observations: masks, tracks, depth images and clouds beside gauges of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.cloud import Cloud, surface_rows
from physim.observe.depth import Depth
from physim.observe.framewise import Framewise
from physim.observe.image_tracks import ImageTracks
from physim.observe.overlap import SoftIoU
from physim.observe.record import ORDERS, Observation
from physim.observe.reduce import Size, reduce_depth, reduce_mask
from physim.observe.robust import HUBER_DELTA
from physim.observe.silhouette import Silhouette
from physim.observe.tracks import Tracks
from physim.scene.built import Built
from physim.scene.depth_file import read_depth
from physim.scene.npz_file import read_npz
from physim.scene.spec_video import VideoPart
from physim.scene.track_file import read_tracks
from physim.scene.video_file import Video, open_video
from physim.scene.video_masks import FoundMasks, find_masks

LARGEST = 640
"""Longest side [px] to which frames are reduced before masks are made."""
MARGIN = 0.25
"""Free share on each side of where the body moves, in a reduced picture."""
EDGE, POINT, SURFACE = 0.08, 0.5, 0.5
"""Noise unless given: of a pixel's coverage; of a tracked point [px]; of a depth or a cloud, in particle spacings."""
NEAR = 1.5
"""A tracked point belongs to the body where particles are within so many spacings of it in the picture."""
FEWEST = 3
"""Tracked points that must lie on the body in the first frame."""


@dataclasses.dataclass(frozen=True)
class Pictured:
    """What one observation of a video needs.

    Attributes:
        values, valid: the record, (m, k).
        sigma: noise, broadcastable to it.
        order: interpolation that its columns allow; None for any.
    """

    gauge: Any
    times: Tensor
    values: Tensor
    sigma: Tensor
    valid: Tensor | None = None
    order: int | None = None


def picture_observations(built: Built) -> list[Observation]:
    """The observations whose record is a video, with their gauges.

    Raises:
        SceneError: a video, mask or track that cannot be read or does not fit, a point off the body.
    """
    found = []
    for name, part in built.scene.spec.observe.items():
        make = _MAKERS.get(part.kind)
        if make is None:
            continue
        try:
            made = make(built, name, part)
        except InputError as error:
            raise built.scene.error(("observe", name), str(error)) from None
        found.append(
            Observation(
                name=name,
                gauge=made.gauge,
                times=made.times,
                values=made.values,
                sigma=made.sigma,
                valid=made.valid,
                held_out=part.holdout,
                huber=None if part.loss == "squares" else part.huber or HUBER_DELTA,
                order=made.order or ORDERS[part.interpolation],
                delay=part.delay,
                weight=part.weight,
            )
        )
    return found


def picture_lines(built: Built) -> list[str]:
    """What is compared with videos, in words; reads them."""
    return [
        f"video      {o.name}: {len(o.times)} frames from {float(o.times[0]):.4g} to {float(o.times[-1]):.4g} s, "
        f"{len(o.gauge.columns)} values each"
        for o in picture_observations(built)
    ]


def video_of(part: VideoPart, largest: int | None = LARGEST) -> Video:
    """The chosen frames of a video of the scene."""
    path = Path(part.file or part.pictures or "")
    return open_video(path, fps=part.fps, begin=part.begin, end=part.end, every=part.every, largest=largest)


def scene_times(part: VideoPart, times: Any) -> Tensor:
    """Times in the scene [s] of times in the video."""
    return torch.as_tensor(np.asarray(times), dtype=torch.float64) - (part.begin or 0.0)


def masks_of(part: VideoPart) -> FoundMasks:
    """The masks of a video of the scene; made once, and again when one of its files has changed."""
    named = [part.file, part.mask.file, getattr(part.mask.background, "file", None)]
    return _masks(part.model_dump_json(), tuple(Path(f).stat().st_mtime_ns for f in named if f))


@lru_cache(maxsize=8)
def _masks(part_json: str, _changed: tuple[int, ...]) -> FoundMasks:
    part = VideoPart.model_validate_json(part_json)
    mask, behind = part.mask, getattr(part.mask.background, "file", None)
    drawn = mask.file or mask.pictures
    return find_masks(
        video_of(part),
        file=Path(drawn) if drawn else None,
        background=Path(behind) if behind else None,
        shadows=mask.shadows,
        region=mask.region,
    )


@dataclasses.dataclass(frozen=True)
class View:
    """The part of a video's picture in which the body moves, and its masks there.

    Attributes:
        camera: of that part.
        times: of the frames with a mask, in the scene [s], (m,).
        masks: coverage, (m, h, w) uint8.
        size: width and height of the reduced picture [px].
        box: left, top, right, bottom [px of the masks].
    """

    camera: PixelCamera
    times: Tensor
    masks: np.ndarray[Any, Any]
    size: Size
    box: tuple[int, int, int, int]


def view_of(built: Built, video: str, size: int) -> View:
    """The masks of a video where the body moves, at most `size` pixels long once reduced."""
    part = built.scene.spec.videos[video]
    found = masks_of(part).masks
    h, w = found.coverage.shape[1:]
    camera = built.cameras[part.camera].scaled(w, h)
    seen = found.coverage[found.valid] > 127
    if not seen.any():
        raise InputError(f"the video '{video}' shows no body in any frame; see what is found: physim mask")
    box = _margined(np.any(seen, axis=0), (w, h))
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    cut = dataclasses.replace(camera, cx=camera.cx - left, cy=camera.cy - top, width=width, height=height)
    share = min(1.0, size / max(width, height))
    reduced = max(1, round(width * share)), max(1, round(height * share))
    times = scene_times(part, found.times[found.valid])
    return View(cut, times, found.coverage[found.valid, top:bottom, left:right], reduced, box)


def _margined(seen: np.ndarray[Any, Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the true pixels with a margin, within the picture."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    low, high = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
    wide = [round(MARGIN * max(b - a for a, b in zip(low, high, strict=True)))] * 2
    begin = [max(0, int(a) - m) for a, m in zip(low, wide, strict=True)]
    end = [min(n, int(b) + m) for b, m, n in zip(high, wide, size, strict=True)]
    return begin[0], begin[1], end[0], end[1]


def _outline(built: Built, part: Any, view: View) -> Silhouette:
    hidden = [built.rows(name) for name in part.hidden_by] if hasattr(part, "hidden_by") else []
    return Silhouette(
        view.camera,
        spacings(built),
        built.rows(part.body),
        view.size,
        getattr(part, "blur", 0.0),
        torch.cat(hidden) if hidden else None,
    )


def spacings(built: Built) -> Tensor:
    """Distance of neighbouring particles at rest, (n,) [m]."""
    each = [torch.full((len(b.x),), float(b.spacing), dtype=torch.float64) for b in built.bodies]
    return torch.cat(each)


def _silhouette(built: Built, name: str, part: Any) -> Pictured:
    view = view_of(built, part.video, part.size)
    values = reduce_mask(view.masks, view.size, part.blur)
    return Pictured(_outline(built, part, view), view.times, values, torch.as_tensor(part.noise or EDGE).double())


def _overlap(built: Built, name: str, part: Any) -> Pictured:
    view = view_of(built, part.video, part.size)
    masks = reduce_mask(view.masks, view.size, part.blur)
    gauge = SoftIoU(_outline(built, part, view), masks, Framewise(view.times, delay=part.delay))
    values, valid = gauge.record
    # One pixel's share of what a mask of this size leaves undecided.
    sigma = (part.noise or EDGE) / float(masks.square().sum(-1).mean().sqrt())
    return Pictured(gauge, view.times, values, torch.tensor(sigma, dtype=torch.float64), valid, order=1)


def _image_tracks(built: Built, name: str, part: Any) -> Pictured:
    film = built.scene.spec.videos[part.video]
    found = read_tracks(Path(part.file), video_of(film, None))
    camera = built.cameras[film.camera].scaled(*found.size)
    points, kept = on_body(built, camera, torch.as_tensor(found.xy[0]), part.body)
    if len(kept) < FEWEST:
        raise InputError(
            f"{len(kept)} of {found.xy.shape[1]} tracked points lie on the body in the first frame: check the camera, "
            "the body's place at the start, and `begin` of the video."
        )
    if part.count is not None and part.count < len(kept):
        some = torch.linspace(0, len(kept) - 1, part.count).round().long()
        points, kept = points[some], kept[some]
    names = tuple(str(int(i)) for i in kept)
    tracks = Tracks.bind(built.x0, points, candidates=built.rows(part.body), names=names)
    xy, seen = torch.as_tensor(found.xy)[:, kept], torch.as_tensor(found.valid)[:, kept]
    sigma: Tensor = torch.tensor(part.noise or POINT, dtype=torch.float64)
    if part.noise is None and found.error is not None:
        error = torch.as_tensor(found.error)[:, kept]
        sigma = torch.where(torch.isfinite(error), error, POINT).repeat_interleave(2, dim=1)
    values = torch.where(seen[..., None], xy, 0.0).flatten(1)
    valid = seen.repeat_interleave(2, dim=1)
    return Pictured(ImageTracks(camera, tracks), scene_times(film, found.times), values, sigma, valid)


def on_body(built: Built, camera: PixelCamera, pixels: Tensor, body: str | None) -> tuple[Tensor, Tensor]:
    """Where pixels of the first frame lie on the body's surface.

    Args:
        built: the scene.
        camera: of the picture.
        pixels: (m, 2); NaN where a point is not seen.
        body: name; all of them unless given.

    Returns:
        positions [m], (k, 3), and which of the pixels they are, (k,).
    """
    rows = built.rows(body)
    x, spacing = built.x0[rows], spacings(built)[rows]
    u, depth = camera.project(x)
    scale = camera.fx if camera.parallel else camera.fx / depth
    flat = built.scene.spec.dim == 2
    points, kept = [], []
    for i, pixel in enumerate(pixels.double()):
        near = (u - pixel).norm(dim=1) < NEAR * spacing * scale
        if not bool(torch.isfinite(pixel).all()) or not bool(near.any()):
            continue
        front = int(torch.where(near, depth, torch.inf).argmin())
        # The surface is half a spacing in front of the first layer; a slab in the plane has none.
        at = depth[front] - (0.0 if flat else 0.5 * float(spacing[front]))
        points.append(camera.unproject(pixel, at))
        kept.append(i)
    found = torch.stack(points) if points else x.new_zeros(0, 3)
    return found, torch.tensor(kept, dtype=torch.long)


def _depth(built: Built, name: str, part: Any) -> Pictured:
    film = built.scene.spec.videos[part.video]
    path = Path(part.file or part.pictures)
    found = read_depth(path, unit=part.unit, fps=film.fps, begin=film.begin, end=film.end, every=film.every)
    view = view_of(built, part.video, part.size)
    masks = masks_of(film).masks
    nearest = np.abs(found.times[:, None] - masks.times[masks.valid]).argmin(axis=1)
    h, w = found.depth.shape[1:]
    left, top, right, bottom = view.box
    sx, sy = w / masks.coverage.shape[2], h / masks.coverage.shape[1]
    if abs(sx - sy) > 0.02 * sx:
        raise InputError(f"depth images of {w} x {h} pixels are not of the shape of the video's.")
    cut = found.depth[:, round(top * sy) : round(bottom * sy), round(left * sx) : round(right * sx)]
    if cut.shape[1:] != view.masks.shape[1:]:
        import cv2

        size = (cut.shape[2], cut.shape[1])
        own = np.stack([cv2.resize(m, size, interpolation=cv2.INTER_AREA) for m in view.masks[nearest]])
    else:
        own = view.masks[nearest]
    values, valid = reduce_depth(cut, view.size, mask=own, background=part.background)
    sigma = part.noise or SURFACE * float(spacings(built).min())
    gauge = Depth(_outline(built, part, view), part.background)
    return Pictured(gauge, scene_times(film, found.times), values, torch.tensor(sigma, dtype=torch.float64), valid)


def _cloud(built: Built, name: str, part: Any) -> Pictured:
    arrays = read_npz(Path(part.file))
    missing = [key for key in ("points", "times") if key not in arrays]
    if missing:
        raise InputError(f"no array `{missing[0]}` in it, only {', '.join(sorted(arrays)) or 'nothing'}.")
    rows, spacing = built.rows(part.body), float(spacings(built)[built.rows(part.body)].min())
    times = torch.as_tensor(arrays["times"]).double()
    surface = rows[surface_rows(built.x0[rows], spacing)] if part.both_ways else None
    gauge = Cloud(
        torch.as_tensor(arrays["points"]).double(), Framewise(times, delay=part.delay), spacing, rows, surface
    )
    values, valid = gauge.record
    sigma = torch.tensor(part.noise or SURFACE * spacing, dtype=torch.float64)
    return Pictured(gauge, times, values, sigma, valid, order=1)


_MAKERS: dict[str, Callable[[Built, str, Any], Pictured]] = {
    "silhouette": _silhouette,
    "overlap": _overlap,
    "image_tracks": _image_tracks,
    "depth": _depth,
    "cloud": _cloud,
}
PICTURED = tuple(_MAKERS)
"""Kinds of observations whose record is a video, not a table."""
