"""Scene entries about videos to observations: masks, tracks, depth images and clouds beside gauges of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.cloud import Cloud, facing_rows, surface_rows
from physim.observe.colour import Colour
from physim.observe.depth import Depth
from physim.observe.framewise import Framewise
from physim.observe.image_tracks import ImageTracks
from physim.observe.overlap import SoftIoU
from physim.observe.record import ORDERS, Observation
from physim.observe.reduce import jumps, reduce_depth, reduce_mask
from physim.observe.robust import HUBER_DELTA
from physim.observe.silhouette import Silhouette
from physim.observe.tracks import Tracks
from physim.scene.build_colour import look_of
from physim.scene.built import Built
from physim.scene.cloud_file import check_near, read_cloud
from physim.scene.depth_file import read_depth
from physim.scene.document import display
from physim.scene.spec import ScenePart
from physim.scene.track_file import read_tracks
from physim.scene.video_part import COVERED, blamed, film_of, masks_of, scene_times
from physim.scene.video_views import SURE, View, check_seen, delay_of, spacings, view_of

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
        with blamed(built.scene, ("observe", name)):
            made = make(built, name, part)
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
                delay=delay_of(built.scene, part),
                weight=part.weight,
                together=True,
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


def _outline(built: Built, part: Any, view: View) -> Silhouette:
    return dataclasses.replace(sight(built, part, view.camera), size=view.size, blur=getattr(part, "blur", 0.0))


def sight(built: Built, part: Any, camera: PixelCamera) -> Silhouette:
    """The body that an observation of a video is about, as a camera sees it."""
    hidden = [built.rows(name) for name in part.hidden_by] if hasattr(part, "hidden_by") else []
    return Silhouette(camera, spacings(built), built.rows(part.body), hidden_by=torch.cat(hidden) if hidden else None)


def _silhouette(built: Built, name: str, part: Any) -> Pictured:
    view = view_of(built, part.video, part.size, part.body)
    values = reduce_mask(view.masks, view.size, part.blur)
    return Pictured(_outline(built, part, view), view.times, values, torch.as_tensor(part.noise or EDGE).double())


def _overlap(built: Built, name: str, part: Any) -> Pictured:
    view = view_of(built, part.video, part.size, part.body)
    masks = reduce_mask(view.masks, view.size, part.blur)
    gauge = SoftIoU(_outline(built, part, view), masks, Framewise(view.times, delay=delay_of(built.scene, part)))
    values, valid = gauge.record
    # One pixel's share of what a mask of this size leaves undecided.
    sigma = (part.noise or EDGE) / float(masks.square().sum(-1).mean().sqrt())
    return Pictured(gauge, view.times, values, torch.tensor(sigma, dtype=torch.float64), valid, order=1)


def _image_tracks(built: Built, name: str, part: Any) -> Pictured:
    film = built.scene.spec.videos[part.video]
    video = film_of(built.scene, part.video, None)
    with blamed(built.scene, ("observe", name, "file")):
        found = read_tracks(Path(part.file), video)
    camera = built.cameras[film.camera].scaled(*found.size)
    check_seen(built, camera, part.video, part.body)
    times = scene_times(film, found.times)
    # Where the body is when the first frame is taken, which a delay moves away from the start.
    x = built.x0 + max(0.0, float(times[0]) + delay_of(built.scene, part)) * built.v0
    points, kept = on_body(built, camera, torch.as_tensor(found.xy[0]), part.body, x)
    if len(kept) < FEWEST:
        raise InputError(
            f"{len(kept)} of {found.xy.shape[1]} tracked points lie on the body in the first frame: check the camera, "
            "the body's place at the start, and `begin` of the video."
        )
    if part.count is not None and part.count < len(kept):
        some = torch.linspace(0, len(kept) - 1, part.count).round().long()
        points, kept = points[some], kept[some]
    names = tuple(str(int(i)) for i in kept)
    tracks = Tracks.bind(x, points, candidates=built.rows(part.body), names=names)
    xy, seen = torch.as_tensor(found.xy)[:, kept], torch.as_tensor(found.valid)[:, kept]
    sigma: Tensor = torch.tensor(part.noise or POINT, dtype=torch.float64)
    if part.noise is None and found.error is not None:
        error = torch.as_tensor(found.error)[:, kept]
        sigma = torch.where(torch.isfinite(error), error, POINT).repeat_interleave(2, dim=1)
    values = torch.where(seen[..., None], xy, 0.0).flatten(1)
    valid = seen.repeat_interleave(2, dim=1)
    return Pictured(ImageTracks(camera, tracks), times, values, sigma, valid)


def on_body(
    built: Built, camera: PixelCamera, pixels: Tensor, body: str | None, x: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Where pixels of the first frame lie on the body's surface.

    Args:
        built: the scene.
        camera: of the picture.
        pixels: (m, 2); NaN where a point is not seen.
        body: name; all of them unless given.
        x: of all particles in that frame [m], (n, 3); those of the start unless given.

    Returns:
        positions [m], (k, 3), and which of the pixels they are, (k,).
    """
    rows = built.rows(body)
    x, spacing = (built.x0 if x is None else x)[rows], spacings(built)[rows]
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
    with blamed(built.scene, ("observe", name, "file" if part.file else "pictures")):
        found = read_depth(path, unit=part.unit, fps=film.fps, begin=film.begin, end=film.end, every=film.every)
    view = view_of(built, part.video, part.size, part.body)
    masks = masks_of(built.scene, part.video).masks
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
    with blamed(built.scene, ("observe", name, "unit")):
        _check_depth(built, view.camera, part.body, cut[0][own[0] > COVERED], part.unit)
    values, valid = reduce_depth(cut, view.size, mask=own, background=part.background)
    noise = part.noise or SURFACE * float(spacings(built).min())
    sigma = torch.hypot(torch.tensor(noise, dtype=torch.float64), EDGE * jumps(values, valid, view.size))
    gauge = Depth(_outline(built, part, view), part.background)
    return Pictured(gauge, scene_times(film, found.times), values, sigma, valid)


def _check_depth(
    built: Built, camera: PixelCamera, body: str | None, found: np.ndarray[Any, Any], unit: str | None
) -> None:
    """Raise `InputError` where depths [m] of the body's pixels in the first frame are in another unit."""
    found = found[np.isfinite(found)]
    if camera.parallel or not len(found):
        return
    mine, seen = float(camera.project(built.x0[built.rows(body)])[1].median()), float(np.median(found))
    if 1.0 / SURE < seen / mine < SURE:
        return
    told = f"`unit: {unit}`" if unit else "no `unit`, which means metres"
    raise InputError(
        f"the body is {mine:.3g} m away from the camera, and {seen:.3g} m in the first depth image, with {told}: "
        f"{seen / mine:.3g} times. Write what one step of the file is, such as `unit: mm`, or `unit: 0.1 mm`"
    )


def _cloud(built: Built, name: str, part: Any) -> Pictured:
    rows, spacing = built.rows(part.body), float(spacings(built)[built.rows(part.body)].min())
    with blamed(built.scene, ("observe", name, "file")):
        times, points = read_cloud(Path(part.file))
        check_near(display(Path(part.file)), points, built.x0[rows])
    points = built.placement.points(torch.as_tensor(points).double())
    surface, x0 = None, built.x0[rows]
    if part.both_ways:
        camera = built.cameras.get(part.camera or "")
        surface = rows[surface_rows(x0, spacing) if camera is None else facing_rows(x0, spacing, camera)]
    gauge = Cloud(points, Framewise(times, delay=delay_of(built.scene, part)), spacing, rows, surface)
    values, valid = gauge.record
    sigma = torch.tensor(part.noise or SURFACE * spacing, dtype=torch.float64)
    return Pictured(gauge, times, values, sigma, valid, order=1)


def _colour(built: Built, name: str, part: Any) -> Pictured:
    view = view_of(built, part.video, part.size, part.body)
    look = look_of(built, part, view)
    sigma = torch.tensor(part.noise or look.noise, dtype=torch.float64)
    return Pictured(Colour(_outline(built, part, view), look.colours, look.background), view.times, look.values, sigma)


_MAKERS: dict[str, Callable[[Built, str, Any], Pictured]] = {
    "silhouette": _silhouette,
    "overlap": _overlap,
    "image_tracks": _image_tracks,
    "depth": _depth,
    "cloud": _cloud,
    "colour": _colour,
}
PICTURED = tuple(_MAKERS)
"""Kinds of observations whose record is a video, not a table."""


def only_pictures(spec: ScenePart) -> bool:
    """Whether pictures are all that a scene is compared with."""
    compared = {part.kind in PICTURED for part in spec.observe.values() if part.kind in PICTURED or part.data}
    return compared == {True} and not spec.tables
