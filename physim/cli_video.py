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
    for command in (init, mask, track, calibrate):
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


def calibrate(
    *sources: Path,
    board: str | None = None,
    square: str | None = None,
    marker: str | None = None,
    dictionary: str = "4x4_50",
    legacy: Annotated[bool, Parameter(negative="")] = False,
    id_: Annotated[int | None, Parameter(name="--id")] = None,
    camera: Path | None = None,
    frames: int = 40,
    fps: Fps = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("camera.yaml"),
    print_: Annotated[Path | None, Parameter(name="--print")] = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Find lens and pose of a camera from pictures of a ChArUco board, or its pose from a single marker.

    The file that is written is for `cameras` in a scene; the picture beside it shows the corners and axes found. With
    --print, `physim calibrate --board 5x7 --square "30 mm" --marker "22 mm" --print board.pdf`, a board is written.

    Args:
        sources: Pictures, folders of pictures, or videos. The pose is that of the last one that shows the target.
        board: Squares across and down, such as 5x7.
        square: Side of a square, measured on the print, such as "30 mm".
        marker: Side of a marker, such as "22 mm"; without --board, of a single one.
        dictionary: Which markers, such as 4x4_50 or 6x6_250.
        legacy: The board was drawn by OpenCV before 4.6.
        id_: Which marker, where several are seen.
        camera: File of a camera whose lens is known: find the pose alone.
        frames: How many frames of a video are looked at.
        out: File to write.
        print_: Write the board to print, .pdf or .png, instead.
        force: Replace files that exist.
    """
    from physim.scene.calibration import target_of, write_board

    target = target_of(board, square, marker, dictionary=dictionary, number=id_, legacy=legacy)
    if print_ is not None:
        write_board(target, print_, force=force)
        say(f"wrote {print_}: print it at 100 %, glue it onto something flat, and measure a square")
        return
    from physim.view.calibration_sheet import calibrate_camera

    found, sheet = calibrate_camera(sources, target, out, lens=camera, most=frames, fps=fps, force=force)
    warn(found.calibration.notes)
    for line in found.lines():
        say(line)
    say(f"wrote {out} and {sheet}; in a scene: cameras: {{front: {{file: {out.name}}}}}")
