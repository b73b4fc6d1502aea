"""What `physim mask` and `physim track` do: find, write, and draw what was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.observe.flow import choose_points, follow
from physim.observe.masks import Coverage
from physim.scene.document import display
from physim.scene.mask_file import write_masks
from physim.scene.npz_file import check_bytes
from physim.scene.track_file import read_tracks, write_tracks
from physim.scene.video_file import Video, open_video
from physim.scene.video_masks import find_masks, first_mask
from physim.view.files import write_png
from physim.view.video_sheet import mask_sheet, track_sheet

# Frames on a sheet, and warnings that are spelt out.
_SHOWN, _TOLD = 12, 8

Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """Which frames of a video, and how large.

    Attributes:
        fps: pictures per second; the file's own times unless given.
        begin: first time [s].
        end: last time [s].
        every: each k-th frame.
        largest: longest side to which frames are reduced [px].
    """

    fps: float | None = None
    begin: float | None = None
    end: float | None = None
    every: int = 1
    largest: int | None = None

    def of(self, path: Path) -> Video:
        """The chosen frames."""
        return open_video(path, fps=self.fps, begin=self.begin, end=self.end, every=self.every, largest=self.largest)


@dataclass(frozen=True)
class Told:
    """What a command says: lines of results, and warnings."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def mask_video(
    clip: Path,
    window: Window,
    *,
    out: Path | None = None,
    masks: Path | None = None,
    background: Path | None = None,
    shadows: bool | None = None,
    region: Region | None = None,
) -> Told:
    """Find the body in each frame, write `<clip>.masks.npz` and a sheet of outlines.

    Args:
        clip: video file or folder of pictures.
        window: which frames.
        out: .npz to write; beside the clip unless given. The sheet has the same name with .png.
        masks: read masks from here instead of finding them, to look at them.
        background: picture without the body.
        shadows: whether to take shadows out; decided from the clip unless given.
        region: left, top, right, bottom [px] outside of which nothing is looked for.
    """
    video = window.of(clip)
    target = _target(clip, out, ".masks.npz")
    found = find_masks(video, file=masks, background=background, shadows=shadows, region=region)
    kept, share = found.masks, found.masks.share
    doubts = found.doubts
    shown = sorted({*video.spread(max(1, _SHOWN - min(4, len(doubts)))), *sorted(doubts)[:4]})
    images = [i[:, :, :3] for i in video.images(shown)]
    captions = [
        f"frame {video.numbers[i]}  {video.times[i]:.3f} s  {doubts.get(i, f'{100 * share[i]:.2f} %')}" for i in shown
    ]
    size = images[0].shape[:2]
    sheet = mask_sheet(images, [_like(kept.coverage[i], size) for i in shown], captions, [i in doubts for i in shown])
    write_masks(target, kept)
    picture = write_png(target.with_suffix(".png"), sheet)
    seen = share[kept.valid]
    lines = (
        _described(video),
        f"masks: {found.how}",
        f"the body covers {100 * seen.min():.2f} to {100 * seen.max():.2f} % of the picture in {len(seen)} of "
        f"{len(share)} frames",
        f"wrote {display(target)}; look at {display(picture)}",
    )
    return Told(lines, _warned(video, doubts, kept.valid))


def track_video(
    clip: Path,
    window: Window,
    *,
    out: Path | None = None,
    points: int = 40,
    masks: Path | None = None,
    background: Path | None = None,
    tracks: Path | None = None,
) -> Told:
    """Follow points of the body, write `<clip>.tracks.npz` and a picture of the trails.

    Args:
        clip: video file or folder of pictures.
        window: which frames.
        out: .npz to write; beside the clip unless given. The picture has the same name with .png.
        points: how many.
        masks: where the body is: what `physim mask` wrote, or one picture for the first frame; found unless given.
        background: picture without the body.
        tracks: read the tracks of another program from here instead, to check, convert and look at them.
    """
    if points < 1:
        raise InputError(f"{points} points are not enough to track; take at least 1.")
    video = window.of(clip)
    target = _target(clip, out, ".tracks.npz")
    warnings: tuple[str, ...] = ()
    if tracks is not None:
        followed = read_tracks(tracks, video)
    else:
        cover = None
        if masks is None:
            small = Window(window.fps, window.begin, window.end, window.every, window.largest or 960).of(clip)
            found = find_masks(small, background=background)
            cover, warnings = found.masks, _warned(small, found.doubts, found.masks.valid)
        else:
            cover = first_mask(masks, video)
        full = (video.size[1], video.size[0])
        check_bytes(video.name, len(cover.coverage), video.size, 1)
        grown = np.stack([_like(c, full) for c in cover.coverage])
        first = next(video.images([0]))
        start = choose_points(first, grown[0], points)
        # A frame whose mask says nothing cannot say that a point has left it.
        grown[~cover.valid] = 255
        within = grown if len(grown) == len(video) else None
        followed = follow(video, video.times, start, masks=within)
    ends = list(video.images(sorted({0, len(video) - 1})))
    write_tracks(target, followed)
    picture = write_png(target.with_suffix(".png"), track_sheet(ends[0], ends[-1], followed))
    lines = [
        _described(video),
        f"{followed.count} points, seen in {100 * followed.lasting:.0f} % of the frames on average",
    ]
    if followed.error is not None and len(followed.times) > 1:
        lines.append(f"estimated error of a coordinate: {np.nanmedian(followed.error[1:]):.2f} px (median)")
    lines.append(f"wrote {display(target)}; look at {display(picture)}")
    if tracks is None and followed.count < points:
        warnings = (*warnings, f"only {followed.count} of {points} points: the body shows no more texture than that.")
    if followed.lasting < 0.5:
        warnings = (
            *warnings,
            "most points are lost early: motion blur, or a body that turns; film at more frames per second.",
        )
    return Told(tuple(lines), warnings)


def _target(clip: Path, out: Path | None, ending: str) -> Path:
    """The file to write, beside the clip unless given."""
    target = out if out is not None else clip.with_name((clip.name if clip.is_dir() else clip.stem) + ending)
    if target.suffix != ".npz":
        raise InputError(f"{target}: the name must end in .npz.")
    return target


def _like(mask: Coverage, size: tuple[int, ...]) -> Coverage:
    """A mask at the height and width of a frame."""
    if mask.shape == tuple(size):
        return mask
    import cv2

    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)  # pyright: ignore[reportReturnType]


def _described(video: Video) -> str:
    width, height = video.full_size
    smaller = "" if video.size == video.full_size else f", reduced to {video.size[0]} x {video.size[1]}"
    span = f"{video.times[0]:.3f} to {video.times[-1]:.3f} s"
    rate = f", {video.rate:.4g} per second" if video.rate else ""
    steps = np.diff(video.times)
    if len(steps) and steps.max() > 1.2 * steps.min():
        rate += f" on average (intervals of {1e3 * steps.min():.1f} to {1e3 * steps.max():.1f} ms)"
    return f"{video.name}: {len(video)} frames of {width} x {height}{smaller}, {span}{rate}"


def _warned(video: Video, doubts: dict[int, str], valid: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[str, ...]:
    """Doubts in words, the first few of them."""
    words = [
        f"frame {video.numbers[i]} ({video.times[i]:.3f} s): {doubt}{'' if valid[i] else '; left out of comparisons'}"
        for i, doubt in sorted(doubts.items())
    ]
    more = len(words) - _TOLD
    return (*words[:_TOLD], *([f"and {more} frames more"] if more > 0 else []))
