"""Commands that begin with a recording: arguments in, one call into a room, its result out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from physim.terminal import say, warn

if TYPE_CHECKING:
    from physim.view.footage import Told

Clip = Annotated[Path, Parameter(help="A video (mp4, mov, webm, ...), or a folder of pictures.")]
Every = Annotated[int, Parameter(help="Each k-th frame.")]
Fps = Annotated[
    float | None,
    Parameter(help="True pictures per second: for a folder, or slow motion. The file's times unless given."),
]
Begin = Annotated[float | None, Parameter(help="First time [s].")]
End = Annotated[float | None, Parameter(help="Last time [s].")]


def add_video_commands(app: App) -> None:
    """Register every command of this file."""
    for command in (init, mask, track):
        app.command(command)


def init(
    path: Path = Path("scene.yaml"),
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    fps: Fps = None,
) -> None:
    """Write a first, commented scene file; from a video, one with what can be seen in it.

    Args:
        path: File to write, ending in .yaml; or a video (or a folder of pictures) to begin with.
        out: With a video: file to write, beside it unless given.
        force: Replace a file that exists.
    """
    from physim.scene.starter import SCENE_FILES, write_starter

    if path.suffix in SCENE_FILES:
        write_starter(path, force=force)
        say(f"wrote {path}; try `physim run {path}`")
        return
    from physim.scene.video_starter import write_video_starter

    begun = write_video_starter(path, out, fps=fps, force=force)
    warn(begun.warnings)
    for line in begun.lines:
        say(line)


def mask(
    clip: Clip,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    background: Path | None = None,
    masks: Path | None = None,
    shadows: bool | None = None,
    region: Annotated[tuple[int, int, int, int] | None, Parameter(negative="")] = None,
    fps: Fps = None,
    begin: Begin = None,
    end: End = None,
    every: Every = 1,
    largest: int = 960,
) -> None:
    """Find the body in each frame of a video, and draw its outlines to look at.

    The camera must stand still. What differs from the median of the frames, or from a picture without the body, is
    taken for the body; pictures with opacity need neither.

    Args:
        out: File to write; CLIP.masks.npz beside the clip unless given. The outlines have the same name with .png.
        background: Picture of the scene without the body, for one that stays in its place.
        masks: Look at masks made elsewhere instead: .npz, a folder of pictures, or a film.
        shadows: Take shadows out of the mask, or leave them in; decided from the clip unless given.
        region: Left, top, right, bottom in pixels; nothing is looked for outside.
        largest: Longest side in pixels to which frames are reduced.
    """
    from physim.view.footage import Window, mask_video

    window = Window(fps, begin, end, every, largest)
    tell(mask_video(clip, window, out=out, masks=masks, background=background, shadows=shadows, region=region))


def track(
    clip: Clip,
    *,
    points: int = 40,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    mask: Path | None = None,
    background: Path | None = None,
    tracks: Path | None = None,
    fps: Fps = None,
    begin: Begin = None,
    end: End = None,
    every: Every = 1,
) -> None:
    """Follow points of the body through a video, and draw their trails to look at.

    Args:
        points: How many, evenly spread over the body in the first frame.
        out: File to write; CLIP.tracks.npz beside the clip unless given. The trails have the same name with .png.
        mask: Where the body is: what `physim mask` wrote, or one picture for the first frame; found unless given.
        background: Picture of the scene without the body, to find it.
        tracks: Look at the tracks of another program instead: .npz with xy (frames, points, 2).
    """
    from physim.view.footage import Window, track_video

    window = Window(fps, begin, end, every)
    tell(track_video(clip, window, out=out, points=points, masks=mask, background=background, tracks=tracks))


def tell(told: Told) -> None:
    """Print what a command found."""
    warn(told.warnings)
    for line in told.lines:
        say(line)
