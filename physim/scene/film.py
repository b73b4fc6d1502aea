"""A video beside a simulation of what it shows, frame by frame: what a report of a fit draws and scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from physim.observe.camera import PixelCamera
from physim.observe.image_tracks import ImageTracks
from physim.observe.masks import FULL, Coverage, mask_iou, outline_offset
from physim.observe.record import Observation
from physim.observe.silhouette import Silhouette
from physim.scene.build_video import sight
from physim.scene.built import Built
from physim.scene.spec_video import ImageTracksPart
from physim.scene.video_file import Video
from physim.scene.video_part import film_of, masks_of, scene_times

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Points:
    """Tracked points beside the markers that follow them in the simulation.

    Attributes:
        observed: pixels of the film, (m, p, 2).
        simulated: pixels of the film, (m, p, 2).
        seen: where a point was tracked, (m, p).
    """

    observed: Array
    simulated: Array
    seen: Array

    def error(self, frame: int) -> float:
        """Distance of simulated from observed points in one frame, root mean square [px]; NaN without any."""
        off = (self.simulated[frame] - self.observed[frame])[self.seen[frame]]
        return float(np.sqrt((off**2).sum(axis=1).mean())) if len(off) else float("nan")


@dataclass(frozen=True, eq=False)
class Film:
    """The frames of a video that are compared with a simulation.

    Attributes:
        name: of the video, after that of the recording where there are several.
        video: hands out the frames.
        times: of the frames in the record [s], (m,).
        simulated: the same with the delay, in the simulation [s], (m,).
        held: which frames no stage has fitted, (m,).
        x: simulated positions at those times [m], (m, n, 3).
        sights: the bodies that are compared, as the video's camera sees them.
        masks: what was seen of them, (m, h, w) uint8; None where only points are compared.
        told: which frames have a mask that counts, (m,).
        points: tracked points, if any.
    """

    name: str
    video: Video
    times: Array
    simulated: Array
    held: Array
    x: Array
    sights: tuple[Silhouette, ...]
    masks: Coverage | None
    told: Array
    points: Points | None = None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def camera(self) -> PixelCamera:
        """Of the video, in pixels of the masks."""
        return self.sights[0].camera

    def coverage(self, frame: int, camera: PixelCamera | None = None) -> Array:
        """How much of each pixel the simulated bodies cover [-], (h, w), as seen by the film's camera or another."""
        x, open_ = torch.as_tensor(self.x[frame]), 1.0
        for seen in self.sights:
            drawn = seen if camera is None else dataclasses.replace(seen, camera=camera)
            open_ = open_ * (1.0 - drawn.picture(x).numpy())
        return np.asarray(1.0 - open_)

    def depth(self, frame: int, camera: PixelCamera | None = None) -> Array:
        """Depth of the front of the simulated bodies [m], (h, w); NaN where there is none."""
        x = torch.as_tensor(self.x[frame])
        found = None
        for seen in self.sights:
            drawn = seen if camera is None else dataclasses.replace(seen, camera=camera)
            depth, there = drawn.splatter.depth(drawn.body(x))
            own = np.where(there.numpy(), depth.numpy(), np.nan)
            found = own if found is None else np.fmin(found, own)
        assert found is not None
        return found

    @cached_property
    def iou(self) -> Array:
        """Intersection over union of the simulated outline and the mask, (m,); NaN where there is none."""
        return np.array([np.nan if s is None else mask_iou(s, m) for s, m in self._pairs])

    @cached_property
    def offset(self) -> Array:
        """How far the simulated outline is from that of the mask on average [px of the masks], (m,)."""
        return np.array([np.nan if s is None else outline_offset(s, m) for s, m in self._pairs])

    @cached_property
    def _pairs(self) -> list[tuple[Coverage | None, Coverage]]:
        empty = np.zeros((0, 0), dtype=np.uint8)
        if self.masks is None:
            return [(None, empty)] * len(self)
        return [
            (np.round(FULL * self.coverage(i)).astype(np.uint8) if self.told[i] else None, mask)
            for i, mask in enumerate(self.masks)
        ]


@dataclass(frozen=True)
class Played:
    """A simulation of a recording.

    Attributes:
        times: of its frames [s], (f,).
        x: positions [m], (f, n, 3).
        records: what was observed, with the delay of each [s].
    """

    times: Array
    x: Array
    records: Sequence[tuple[Observation, float]]

    def at(self, times: Array) -> Array:
        """Positions at other times, between frames in proportion, and before and after them those of the ends."""
        place = np.interp(times, self.times, np.arange(len(self.times)))
        low = np.minimum(place.astype(int), max(len(self.times) - 2, 0))
        high = np.minimum(low + 1, len(self.times) - 1)
        share = (place - low)[:, None, None].astype(np.float32)
        return (1.0 - share) * self.x[low] + share * self.x[high]


def make_films(built: Built, played: Played, windows: Sequence[tuple[float, float]], label: str = "") -> list[Film]:
    """A film of every video that observations are compared with.

    Args:
        built: the scene at the values that were played.
        played: the simulation.
        windows: times of the record that were fitted [s], but for what the observations hold out.
        label: of the recording, put before the names.
    """
    records = {o.name: (o, delay) for o, delay in played.records}
    found = []
    for video in built.scene.spec.videos:
        mine = {n: p for n, p in built.scene.spec.observe.items() if n in records and p.video == video}
        if mine:
            name = f"{label}.{video}" if label else video
            found.append(_film(built, played, {n: (p, *records[n]) for n, p in mine.items()}, video, name, windows))
    return found


def _film(
    built: Built,
    played: Played,
    mine: Mapping[str, tuple[Any, Observation, float]],
    video: str,
    name: str,
    windows: Sequence[tuple[float, float]],
) -> Film:
    part = built.scene.spec.videos[video]
    frames = film_of(built.scene, video)
    times = scene_times(part, frames.times).numpy()
    outlined = [p for p, _, _ in mine.values() if hasattr(p, "size")]
    masks = masks_of(built.scene, video).masks if outlined else None
    size = frames.size if masks is None else (masks.coverage.shape[2], masks.coverage.shape[1])
    camera = built.cameras[part.camera].scaled(*size)
    shown = outlined or [p for p, _, _ in mine.values()]
    fitted = np.zeros(len(times), dtype=bool)
    for _, record, _ in mine.values():
        kept = np.ones(len(times), dtype=bool)
        for begin, end in record.held_out:
            kept &= ~((times >= begin) & (times <= end))
        fitted |= kept
    within = [(times >= begin - 1e-12) & (times <= end + 1e-12) for begin, end in windows]
    # The outline's delay is the picture's; without an outline the points tell it.
    first = next(iter(n for n, (p, _, _) in mine.items() if p is shown[0]))
    simulated = times + mine[first][2]
    tracks = [(o, d) for p, o, d in mine.values() if isinstance(p, ImageTracksPart)]
    return Film(
        name=name,
        video=frames,
        times=times,
        simulated=simulated,
        held=~(fitted & np.any(within, axis=0)) if within else np.ones(len(times), dtype=bool),
        x=played.at(simulated),
        sights=tuple(_different(sight(built, p, camera) for p in shown)),
        masks=None if masks is None else masks.coverage,
        told=np.zeros(len(times), dtype=bool) if masks is None else masks.valid,
        points=_points(tracks, played, times, size) if tracks else None,
    )


def _different(sights: Any) -> list[Silhouette]:
    """Each body once, though several observations may be about it."""
    found: list[Silhouette] = []
    for seen in sights:
        if not any(torch.equal(torch.as_tensor(seen.rows), torch.as_tensor(other.rows)) for other in found):
            found.append(seen)
    return found


def _points(tracks: Sequence[tuple[Observation, float]], played: Played, times: Array, size: tuple[int, int]) -> Points:
    """Tracked points of all observations at the frames' times, in pixels of a picture of this size."""
    observed, simulated, seen = [], [], []
    near = 0.5 * float(np.diff(times).min()) if len(times) > 1 else np.inf
    for record, delay in tracks:
        gauge = record.gauge
        assert isinstance(gauge, ImageTracks)
        own = record.times.numpy()
        row = np.abs(own[None, :] - times[:, None]).argmin(axis=1)
        there = np.abs(own[row] - times) <= near
        share = size[0] / gauge.camera.width
        x = torch.as_tensor(played.at(times + delay)).double()
        pixels = torch.stack([gauge.camera.project(gauge.tracks.positions(frame))[0] for frame in x])
        valid = torch.ones_like(record.values, dtype=torch.bool) if record.valid is None else record.valid
        observed.append(_scaled(record.values.numpy()[row].reshape(len(times), -1, 2), share))
        simulated.append(_scaled(pixels.numpy(), share))
        seen.append(valid.numpy()[row][:, ::2] & there[:, None])
    return Points(*(np.concatenate(parts, axis=1) for parts in (observed, simulated, seen)))


def _scaled(pixels: Array, share: float) -> Array:
    return (pixels + 0.5) * share - 0.5
