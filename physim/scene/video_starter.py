"""A first scene file from a video: what can be seen in it filled in, and what to fill in marked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from physim.errors import InputError
from physim.scene.document import display
from physim.scene.rundir import write_atomic
from physim.scene.starter import check_free
from physim.scene.video_file import Video, open_video
from physim.scene.video_guess import Guess, guess_from
from physim.scene.video_masks import find_masks

# Longest side [px], and number of frames, that are enough for a guess.
_LARGEST, _FRAMES = 480, 150
# Cells across the shortest side of the body, and most along a side of the region.
_CELLS, _MOST = 8, 160
_ARTICLES = {
    "box": "a box",
    "sphere": "a ball",
    "revolved": "the body of revolution with its outline",
    "slab": "a slab with its outline",
}

TEMPLATE = """\
# Begun from {clip}: {frames} frames of {width} x {height}, {rate} per second.
# What was seen is filled in; go through the lines marked with (!), which no picture tells.
# See what is taken for the body: physim mask {clip}     Check: physim check scene {name}     Fit: physim fit {name}
title: {title}

solver: mpm                     # solid: a body that is clamped and keeps its shape
dim: 3                          # 2 is plane strain: a slab seen from its flat side

cameras:
  front:
    # A view from the side, far enough away for perspective not to matter. The scene's origin is the picture's lower
    # left corner, x runs right, y up, and z = 0 is the plane through the middle of the body.
    size: [{width}, {height}]
    side_view:
      scale: {pixel}            # (!) size of a pixel: {scale}
      center: [{middle_x}, {middle_y}, 0]   # point in the middle of the picture
    # With a calibrated camera instead: file: camera.yaml   (`physim calibrate` writes it)

videos:
  clip:
    {kind}: {clip}
    camera: front
    begin: {begin}                  # the scene starts at this time of the video
    end: {end}
    {fps}mask: {{background: median}}  # or {{background: {{file: empty.png}}}}, or {{file: masks.npz}}

grid:                           # where material may be
  origin: [{origin}]   # (!) its lower face is the floor: the lowest place that is reached
  upper: [{upper}]
  dx: {dx}
gravity: [0, -9.81, 0]          # (!) tilt it if the camera was tilted
time:
  duration: {duration}
  dt: auto
  frame: {frame}

materials:
  body:
    law: neo_hookean            # (!) `physim check law --all` lists the laws
    E: 50 kPa                   # (!) a start within a factor of five is good enough
    nu: 0.4                     # (!) a silhouette hardly tells it
    density: 1000 kg/m^3        # (!) weigh it: without a known force, a video tells stiffness per density
    viscous: {{law: kelvin_voigt, viscosity: 5 Pa s}}

bodies:
  body:
    shape:
      # (!) depth is not seen. {instead}
      # or hull: {{videos: [clip, side]}} of two cameras, or mesh: {{file: body.stl, scale: 0.001}}
      {shape}
    material: body
    velocity: [{velocity}]      # at the beginning, from the first frames
    per_cell: 8

walls:
  y_min: {{type: coulomb, friction: 0.5}}   # (!) or stick, slip

observe:
  shape:
    kind: silhouette
    video: clip
  # points:                     # more is seen of a body with texture: physim track {clip}
  #   kind: image_tracks
  #   video: clip
  #   file: {tracks}

fit:
  parameters:
    bodies.body.velocity.x: {{}}
    bodies.body.velocity.y: {{}}
    materials.body.E: {{bounds: [1 kPa, 2.5 MPa]}}
    materials.body.viscous.viscosity: {{bounds: [0.01 Pa s, 1 kPa s]}}
  starts: [0.2, 1, 5]           # the material's parameters are uncertain by a factor of five
  stages:
    - {{name: flight, end: {contact}, parameters: [bodies.body.velocity.x, bodies.body.velocity.y]}}
    - {{name: material, parameters: [materials.body.E, materials.body.viscous.viscosity]}}
    - {{name: all}}
  assumed:
    materials.body.density: 50 kg/m^3   # (!) how well it is known; the intervals are told with it
"""


@dataclass(frozen=True)
class Begun:
    """What is said of a scene file that was begun from a video."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...]


def write_video_starter(clip: Path, out: Path | None = None, *, fps: float | None = None, force: bool = False) -> Begun:
    """Write a scene file that begins with a video.

    Args:
        clip: video file, or folder of pictures.
        out: file to write, ending in .yaml; beside the clip unless given. It must lie beside the clip or above it,
            where the scene may read the clip.
        fps: true pictures per second; the file's own times unless given.
        force: replace a file that exists.

    Raises:
        InputError: no video, no frame rate, or a file that exists or cannot reach the clip.
    """
    if not clip.exists():
        raise InputError(f"{clip}: no such video, or folder of pictures; a scene file to write ends in .yaml.")
    scene = clip.with_name((clip.name if clip.is_dir() else clip.stem) + ".yaml") if out is None else out
    check_free(scene, force=force)
    if not clip.resolve().is_relative_to(scene.resolve().parent):
        raise InputError(
            f"{scene}: a scene reads only what lies beside it, and {clip} does not; write it to "
            f"{display(clip.parent / scene.name)}, or copy the video."
        )
    video = open_video(clip, fps=fps)
    video = open_video(clip, fps=fps, every=math.ceil(len(video) / _FRAMES), largest=_LARGEST)
    warnings, shape_words = (), ()
    try:
        found = find_masks(video)
        guess, how = guess_from(found.masks), found.how
        shape_words = (_shape_words(guess),)
        if found.doubts:
            warnings = (f"masks of {len(found.doubts)} of {len(video)} frames look wrong; see `physim mask {clip}`.",)
    except InputError as error:
        guess, how = _blank(video), "the middle of the picture"
        warnings = (f"the body was not found, and its place is a blank. {error}",)
    write_atomic(scene, _filled(scene, clip, video, guess, fps))
    seen = video.full_size
    scale = "from its fall" if guess.fallen else "a body of 100 mm is assumed; fill in the true size"
    width, height = (1e3 * guess.metres_per_pixel * s for s in guess.size)
    return Begun(
        (
            f"{video.name}: {len(video.source.times)} frames of {seen[0]} x {seen[1]}, body: {how}",
            f"a pixel is {1e3 * guess.metres_per_pixel:.3g} mm ({scale}); the body {width:.3g} x {height:.3g} mm",
            *shape_words,
            f"wrote {scene}; fill in the lines marked with (!), then `physim check scene {scene}`",
        ),
        warnings,
    )


def _blank(video: Video) -> Guess:
    """A body in the middle third of the picture."""
    w, h = video.full_size
    box = (w / 3, h / 3, 2 * w / 3, 2 * h / 3)
    pixel = 0.1 / max(w / 3, h / 3)
    begin, end = float(video.times[0]), float(video.times[-1])
    return Guess(
        begin,
        end,
        box,
        (w / 3, h / 3, 2 * w / 3, float(h)),
        (0.0, 0.0),
        "box",
        (1.0, 0.0, 1.0),
        pixel,
        False,
        (begin + end) / 2,
    )


def _filled(scene: Path, clip: Path, video: Video, guess: Guess, fps: float | None) -> str:
    """The template with numbers."""
    pixel, (w, h) = guess.metres_per_pixel, video.full_size
    width, height = (s * pixel for s in guess.size)
    left, top, right, bottom = guess.box
    x, y = 0.5 * (left + right) * pixel, (h - 0.5 * (top + bottom)) * pixel
    low = [guess.swept[0] * pixel - width, (h - guess.swept[3]) * pixel, -width]
    high = [guess.swept[2] * pixel + width, (h - guess.swept[1]) * pixel + 0.5 * height, width]
    dx = _rounded(max(min(width, height) / _CELLS, max(b - a for a, b in zip(low, high, strict=True)) / _MOST))
    cells = [math.ceil((b - a) / dx) for a, b in zip(low, high, strict=True)]
    shapes = {
        "box": f"box: {{center: [{_mm(x)}, {_mm(y)}, 0], size: [{_mm(width)}, {_mm(height)}, {_mm(width)}]}}",
        "sphere": f"sphere: {{center: [{_mm(x)}, {_mm(y)}, 0], radius: {_mm(0.25 * (width + height))}}}",
        "revolved": "outline: {video: clip, revolve: y}",
        "slab": f"outline: {{video: clip, thickness: {_mm(min(width, height))}}}",
    }
    # Both ways of giving the outline a depth are offered, whatever was taken.
    others = [text for name, text in shapes.items() if name != guess.shape and text.startswith("outline")]
    rate = (len(video.source.times) - 1) / float(video.source.times[-1]) if len(video.source.times) > 1 else 0.0
    # A whole number of frames, which reach beyond the last picture.
    frame = float(f"{min(1.0 / rate if rate else 1.0, max(guess.end - guess.begin, 1e-3)):.4g}")
    count = math.floor((guess.end - guess.begin) / frame) + 1
    named = clip.resolve().relative_to(scene.resolve().parent).as_posix()
    return TEMPLATE.format(
        name=scene.name,
        title=f"The body in {re.sub(r'[^A-Za-z0-9_. -]+', '_', clip.name)}",
        clip=_yaml(named),
        kind="pictures" if clip.is_dir() else "file",
        tracks=_yaml(str(Path(named).with_suffix("")) + ".tracks.npz"),
        frames=len(video.source.times),
        width=w,
        height=h,
        rate=f"{rate:.4g}",
        pixel=f"{1e3 * pixel:.4g} mm",
        scale=_scale_words(guess),
        middle_x=_mm(0.5 * w * pixel),
        middle_y=_mm(0.5 * h * pixel),
        begin=f"{guess.begin:.6g} s",
        end=f"{guess.end:.6g} s",
        fps="" if fps is None else f"fps: {fps:g}\n    ",
        origin=", ".join(_mm(a) for a in low),
        upper=", ".join(_mm(_near(a) + n * dx) for a, n in zip(low, cells, strict=True)),
        dx=_mm(dx),
        duration=f"{1e3 * count * frame:.10g} ms",
        frame=f"{1e3 * frame:.10g} ms",
        shape=shapes[guess.shape],
        instead=f"Its outline in the first picture: {', or '.join(others)};",
        velocity=f"{guess.velocity[0] * pixel:.3g}, {-guess.velocity[1] * pixel:.3g}, 0",
        contact=f"{guess.contact - guess.begin:.4g} s",
    )


def _scale_words(guess: Guess) -> str:
    size = f"{max(guess.size):.0f} pixels"
    if guess.fallen:
        return f"from its fall, if that is in real time; the body has {size}"
    return f"the body's {size} are taken to be 100 mm"


def _shape_words(guess: Guess) -> str:
    box, disk, mirror = (f"{100 * share:.0f} %" for share in guess.alike)
    return (
        f"taken for {_ARTICLES[guess.shape]}: its first outline overlaps {box} with a box, {disk} with a disk, "
        f"{mirror} with its mirror image"
    )


def _rounded(length: float) -> float:
    """A length with two digits."""
    power = 10.0 ** (math.floor(math.log10(length)) - 1)
    return math.ceil(length / power) * power


def _near(length: float) -> float:
    """A length as it is written: to a hundredth of a millimetre."""
    return round(length, 5)


def _mm(length: float) -> str:
    return f"{1e3 * _near(length):.10g} mm"


def _yaml(text: str) -> str:
    """A file name as YAML reads it back."""
    plain = re.fullmatch(r"[A-Za-z0-9_./-]+", text) and text[0] not in "-."
    return text if plain else "'" + text.replace("'", "''") + "'"
