"""`physim calibrate`: pictures of a target in, the file of a camera out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from physim.errors import InputError
from physim.observe.calibrate import LENS, Calibration, calibrate, place
from physim.observe.camera import PixelCamera, middle
from physim.observe.targets import (
    Board,
    Image,
    Marker,
    Sighting,
    draw_board,
    find_board,
    find_marker,
    markers_in,
    other_dictionaries,
    read_board,
)
from physim.scene.camera_files import Posed
from physim.scene.cameras import read_calibrated
from physim.scene.document import display
from physim.scene.rundir import write_atomic
from physim.scene.units import LENGTH, UnitError, parse
from physim.scene.video_file import fitted, open_video, reduced
from physim.scene.video_source import PICTURES, picture_files, read_picture

# Longest side of the pictures that are kept to draw on [px].
SHOWN = 640
DOTS_PER_INCH = 300
# The largest square or marker [m].
LARGEST = 2.0
INCH = 0.0254

# As many markers of another dictionary in one picture are no accident.
_TELLING = 3

CAMERA_FILES = (".yaml", ".yml")

Target = Board | Marker


@dataclass(frozen=True, eq=False)
class FoundCamera:
    """What `physim calibrate` found.

    Attributes:
        target: what was looked for.
        calibration: the camera in the pose of every picture that was used.
        pictures: these pictures, reduced, (h, w, 3) uint8.
        tried: how many pictures were searched.
    """

    target: Target
    calibration: Calibration
    pictures: tuple[Image, ...]
    tried: int

    def lines(self) -> list[str]:
        """What was found, for the terminal."""
        found, camera = self.calibration, self.calibration.camera
        pixels = torch.tensor([[-0.5, camera.cy], [camera.width - 0.5, camera.cy]], dtype=torch.float64)
        told = [f"{camera.width} x {camera.height} px"]
        for name, value in lens_of(camera).items():
            spread = found.deviations.get(name)
            told.append(f"{name} {value:.5g}" + (f" ± {spread:.2g}" if spread else ""))
        try:
            left, right = camera.rays(pixels)[1]
            told.append(f"{float(torch.rad2deg(torch.arccos(left @ right))):.1f} degrees across")
        except InputError:
            # That the lens has no ray at its edge is among the notes.
            told.append("no angle of view")
        distance = float(camera.center.norm())
        used = f"{len(found.views)} of {self.tried} pictures"
        return [
            f"camera  {', '.join(told)}",
            f"fit     {found.error:.3g} px off, over {found.corners} corners of {used}",
            f"pose    of {found.sightings[-1].name}: {distance:.4g} m from {_origin(self.target)}",
        ]


def target_of(
    board: str | None,
    square: str | None,
    marker: str | None,
    *,
    dictionary: str = "4x4_50",
    number: int | None = None,
    legacy: bool = False,
) -> Target:
    """The target that a user tells of.

    Args:
        board: squares across and down, such as `5x7`; None is a single marker.
        square: side of a square, such as `30 mm`.
        marker: side of a marker, such as `22 mm`.
        dictionary: which markers.
        number: which marker.
        legacy: a board drawn by OpenCV before 4.6.

    Raises:
        InputError: something is missing, or no length.
    """
    if board is None and marker is None:
        raise InputError(
            'name what the pictures show: a board, such as --board 5x7 --square "30 mm" --marker "22 mm", or a single '
            'marker of a known side, --marker "50 mm".'
        )
    if board is None:
        return Marker(_length("--marker", marker), dictionary, number)
    if square is None or marker is None:
        raise InputError('a board has sides: add --square "30 mm" and --marker "22 mm", as measured on the print.')
    columns, rows = read_board(board)
    return Board(columns, rows, _length("--square", square), _length("--marker", marker), dictionary, legacy)


def _length(option: str, text: str | None) -> float:
    try:
        length = parse(text, LENGTH)
    except UnitError as error:
        raise InputError(f"{option}: {error}.") from None
    if length > LARGEST:
        raise InputError(f"{option}: {length:g} m is no size to print; bare numbers are metres. Write {length:g} mm.")
    return length


def find_camera(
    sources: Sequence[Path], target: Target, *, lens: Path | None = None, most: int = 40, fps: float | None = None
) -> FoundCamera:
    """Find a camera by pictures of a target.

    Args:
        sources: pictures, folders of pictures, and videos.
        target: a board; or a single marker, whose pose alone is found.
        lens: file of a camera whose lens is known, of which the pose is found alone.
        most: how many frames of a video are looked at.
        fps: pictures per second [1/s] of videos that do not say it.

    Raises:
        InputError: nothing to read, no target in the pictures, or too few views of it.
    """
    if isinstance(target, Marker) and lens is None:
        raise InputError(
            "a single marker gives the pose of a camera whose lens is known; name its file with --camera, such as "
            "--camera camera.yaml, or find the lens by a board first (--board)."
        )
    if most < 1:
        raise InputError(f"--frames {most}: look at one frame of a video at least.")
    known = None if lens is None else known_lens(lens)
    seen: list[tuple[Sighting, Image]] = []
    unseen: list[tuple[str, Image]] = []
    tried = 0
    for name, picture in pictures_of(sources, most, fps):
        tried += 1
        sighting = (
            find_board(target, picture, name) if isinstance(target, Board) else find_marker(target, picture, name)
        )
        if sighting is not None:
            small = reduced((picture.shape[1], picture.shape[0]), SHOWN)
            seen.append((sighting, fitted(picture[:, :, :3], small)))
        elif len(unseen) < _TELLING:
            unseen.append((name, picture))
    if not seen:
        raise InputError(f"no {target} in {tried} picture{'s' * (tried != 1)}. {_why(target, unseen)}")
    if known is not None:
        sighting, picture = seen[-1]
        return FoundCamera(target, place(sighting, known), (picture,), tried)
    found = calibrate([s for s, _ in seen])
    kept = tuple(p for s, p in seen if any(s is used for used in found.sightings))
    return FoundCamera(target, found, kept, tried)


def known_lens(path: Path) -> PixelCamera:
    """A camera with the lens of a calibrated file; its pose says nothing."""
    if not path.is_file():
        raise InputError(f"{display(path)}: no such file of a camera.")
    read = read_calibrated(path)
    lens = read.lens if isinstance(read, Posed) else read
    assert lens.size is not None
    cx, cy = (c if c is not None else middle(n) for c, n in zip((lens.cx, lens.cy), lens.size, strict=True))
    pose = torch.eye(4, dtype=torch.float64)
    return PixelCamera(pose, lens.fx, lens.fy, cx, cy, *lens.size, lens.distortion)


def lens_of(camera: PixelCamera) -> dict[str, float]:
    """Focal lengths, optical axis [px] and distortion by name, k3 only where there is one."""
    k1, k2, p1, p2, k3 = camera.distortion
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy, k1, k2, p1, p2)
    return dict(zip(LENS, numbers, strict=True)) | ({"k3": k3} if k3 else {})


def pictures_of(sources: Sequence[Path], most: int, fps: float | None = None) -> Iterator[tuple[str, Image]]:
    """Names and pictures, (h, w, 3 or 4) uint8, of files, folders, and frames spread over videos.

    Raises:
        InputError: one of them cannot be read.
    """
    if not sources:
        raise InputError("name pictures of the target, a folder of them, or a video.")
    for source in sources:
        if source.is_dir() or source.suffix.lower() in PICTURES:
            for file in picture_files(source) if source.is_dir() else (source,):
                yield file.name, read_picture(file)
            continue
        video = open_video(source, fps=fps)
        chosen = video.spread(most)
        for place_, image in zip(chosen, video.images(chosen), strict=True):
            yield f"{source.name} at {video.times[place_]:.3f} s", image


def write_camera(found: FoundCamera, path: Path, *, force: bool = False) -> None:
    """Write the camera as YAML that a scene can name; whole or not at all.

    Raises:
        InputError: the file exists, or the name does not end in .yaml.
    """
    check_free(path, CAMERA_FILES, "the file of a camera", force)
    calibration, camera = found.calibration, found.calibration.camera
    lens = ", ".join(f"{name}: {_digits(value)}" for name, value in lens_of(camera).items())
    spread = ", ".join(f"{name}: {value:.2g}" for name, value in calibration.deviations.items())
    rows = [", ".join(_digits(v) for v in row) for row in camera.world_to_camera.tolist()]
    write_atomic(
        path,
        "\n".join(
            [
                f"# A camera, found by `physim calibrate`. In a scene: cameras: {{front: {{file: {path.name}}}}}",
                f"# Its world starts in {_origin(found.target)}: x to the right, y up along it, z out of it [m].",
                "# `world` in the scene says where these axes are; `look` there takes the lens alone.",
                f"size: [{camera.width}, {camera.height}]",
                f"intrinsics: {{{lens}}}",
                "matrix:   # from that world to the camera: x to the right, y down, z forward [m]",
                *(f"  - [{row}]" for row in rows),
                "found:",
                f"  by: {_quoted(str(found.target))}",
                f"  error: {calibration.error:.4g}   # px",
                f"  corners: {calibration.corners}",
                f"  pictures: [{', '.join(_quoted(s.name) for s in calibration.sightings)}]",
                f"  pose: {_quoted(calibration.sightings[-1].name)}",
                *([f"  deviations: {{{spread}}}"] if spread else []),
                "",
            ]
        ),
    )


def write_board(board: Target, path: Path, *, force: bool = False) -> None:
    """Write a board to print: a PNG or a PDF of 300 dots per inch, in its true size.

    Raises:
        InputError: the file exists, or has another ending; a single marker, which is no board.
    """
    import io

    from PIL import Image as Picture

    if not isinstance(board, Board):
        raise InputError("a board to print is told by --board, --square and --marker.")
    check_free(path, (".png", ".pdf"), "a board to print", force)
    # A whole number of dots for a square, and the resolution that makes it the right size.
    side = round(board.square / INCH * DOTS_PER_INCH)
    dots = side / board.square * INCH
    picture, stream = Picture.fromarray(draw_board(board, side / board.square)), io.BytesIO()
    if path.suffix == ".pdf":
        picture.save(stream, format="PDF", resolution=dots)
    else:
        picture.save(stream, format="PNG", dpi=(dots, dots))
    write_atomic(path, stream.getvalue())


def check_free(path: Path, endings: tuple[str, ...], what: str, force: bool) -> None:
    """Raise `InputError` unless `path` has one of the endings, and is new or may be replaced."""
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: {what} ends in {' or '.join(endings)}.")
    if path.exists() and not force:
        raise InputError(f"{path} exists; choose another name with --out, or replace it with --force.")


def _why(target: Target, unseen: Sequence[tuple[str, Image]]) -> str:
    """What the pictures show instead."""
    for name, picture in unseen:
        own = markers_in(picture, target.dictionary)
        if own and isinstance(target, Board):
            return (
                f"{name} shows {len(own)} markers of {target.dictionary}, but they do not lie as on this board. Is it "
                "told as squares across x squares down? Boards drawn by OpenCV before 4.6 need --legacy."
            )
        if own:
            return f"{name} shows the markers {', '.join(str(n) for n in sorted(own))}; choose one with --id."
        for other, count in other_dictionaries(picture, target.dictionary).items():
            if count >= _TELLING or isinstance(target, Marker):
                return f"{name} shows {count} of {other}; name them with --dictionary {other}."
    return "Is it sharp, evenly lit, and whole with its white margin?"


def _origin(target: Target) -> str:
    return "the lower left corner of the board" if isinstance(target, Board) else "the middle of the marker"


def _digits(value: float) -> str:
    return f"{value:.10g}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
