"""Entries of a scene file about cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator

from physim.scene.fields import Direction, Part, Point, PositiveLength, Quantity, Rotation, fail
from physim.scene.units import ANGLE, DEGREE

Size = Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(min_length=2, max_length=2)]
"""Width and height of a picture [px]."""

Focal = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Matrix = tuple[tuple[Finite, ...], ...]


class IntrinsicsPart(Part):
    """Focal lengths and optical axis [px], and Brown's distortion; pixel centres are whole numbers, as in OpenCV."""

    fx: Focal
    fy: Focal | None = None
    cx: Finite | None = None
    cy: Finite | None = None
    k1: Finite = 0.0
    k2: Finite = 0.0
    p1: Finite = 0.0
    p2: Finite = 0.0
    k3: Finite = 0.0


class LookPart(Part):
    """A pinhole camera by where it stands; `field_of_view` is the angle between left and right edge of the picture."""

    position: Point = Field(alias="from")
    at: Point
    up: Direction | None = None
    field_of_view: Annotated[float, Quantity(ANGLE, above=0.0, most=179.0 * DEGREE)] | None = None


class SideViewPart(Part):
    """A parallel view with a ruler: `scale` is the size of a pixel, `center` what is in the middle of the picture."""

    scale: PositiveLength
    center: Point
    looks: Direction = (0.0, 0.0, -1.0)
    up: Direction | None = None


class WorldPart(Part):
    """Where the axes of a file are in the scene: turned about the file's origin, then moved.

    The turn is a `rotation` (axis times angle), or the directions in which the file's `x` and `y` point.
    """

    translation: Point = (0.0, 0.0, 0.0)
    rotation: Rotation | None = None
    x: Direction | None = None
    y: Direction | None = None

    @model_validator(mode="after")
    def _turn(self) -> WorldPart:
        if (self.x is None) != (self.y is None) or (self.x is not None and self.rotation is not None):
            raise fail("give either a `rotation`, or both `x` and `y`: where these axes of the file point in the scene")
        return self


class CameraPart(Part):
    """A camera: typed in by `look`, `side_view` or `matrix`, or read from a file.

    `file` is a nerfstudio transforms.json, of which `frame` is taken, or what `physim calibrate` wrote; with `look` or
    `matrix` only the lens is taken from the latter. `colmap` is a folder with cameras.txt and images.txt, of which
    `image` is taken. `scale` is the length of the file's unit.
    """

    size: Size | None = None
    look: LookPart | None = None
    side_view: SideViewPart | None = None
    matrix: Matrix | None = None
    intrinsics: IntrinsicsPart | None = None
    file: str | None = None
    frame: str | None = None
    colmap: str | None = None
    image: str | None = None
    scale: PositiveLength = 1.0
    world: WorldPart | None = None

    @model_validator(mode="after")
    def _one_way(self) -> CameraPart:
        poses = self.given("look", "side_view", "matrix")
        sources = self.given("file", "colmap")
        if not poses and not sources:
            raise fail(f"needs one of {_listed(('look', 'side_view', 'matrix', 'file', 'colmap'))}")
        lens_of_file = sources == ["file"] and poses in (["look"], ["matrix"])
        if len(poses) + len(sources) > 1 and not lens_of_file:
            raise fail(f"has {_listed([*poses, *sources], 'and')}; one of them is enough")
        if self.frame is not None and self.file is None:
            raise fail("`frame` is one of a `file`, such as transforms.json")
        if self.image is not None and self.colmap is None:
            raise fail("`image` is one of a `colmap` folder")
        self._lens(poses, sources)
        moved = self.given("scale", "world")
        if moved and not sources and self.matrix is None:
            raise fail(f"{_listed(moved, 'and')}: for what a file says; `{poses[0]}` is in the scene's own metres")
        if moved and sources and poses:
            raise fail(f"{_listed(moved, 'and')}: for a pose that is read from a file, but `{poses[0]}` is given")
        _check_matrix(self.matrix)
        return self

    def _lens(self, poses: list[str], sources: list[str]) -> None:
        """Something must say how wide the camera sees, and only once."""
        angle = self.look is not None and self.look.field_of_view is not None
        lenses = [*(["look.field_of_view"] if angle else []), *self.given("intrinsics"), *sources]
        if self.side_view is not None:
            if self.intrinsics is not None:
                raise fail("a `side_view` has a `scale` instead of `intrinsics`; leave them out")
        elif not lenses:
            more = "`field_of_view` in `look`, " if self.look is not None else ""
            raise fail(f"how wide it sees is missing: give {more}`intrinsics: {{fx: 900}}` or a calibrated `file`")
        elif len(lenses) > 1:
            raise fail(f"has {_listed(lenses, 'and')}; one of them is enough")
        if self.size is None and not sources:
            raise fail("needs `size: [width, height]`, the pixels of the picture that `intrinsics` or `scale` are for")

    def given(self, *names: str) -> list[str]:
        """Which of these entries the file has."""
        return [n for n in names if n in self.model_fields_set and getattr(self, n) is not None]


def _check_matrix(matrix: Matrix | None) -> None:
    if matrix is None:
        return
    if len(matrix) not in (3, 4) or any(len(row) != 4 for row in matrix):
        told = f"{len(matrix)} rows of {'/'.join(str(n) for n in sorted({len(row) for row in matrix}))}"
        raise fail(f"`matrix` takes the scene's axes to the camera's: 3 or 4 rows of 4 numbers, got {told}")
    if len(matrix) == 4 and tuple(matrix[3]) != (0.0, 0.0, 0.0, 1.0):
        raise fail(f"the last row of `matrix` must be [0, 0, 0, 1], got {list(matrix[3])}")


def _listed(names: Sequence[str], word: str = "or") -> str:
    quoted = [f"`{name}`" for name in names]
    return f" {word} ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


class FoundPart(Part):
    """How a camera was found, in the file that `physim calibrate` writes."""

    by: str
    error: Finite
    pictures: tuple[str, ...] = ()
    corners: int | None = None
    deviations: dict[str, Finite] = Field(default_factory=dict)
    pose: str | None = None


class CameraFilePart(Part):
    """The file that `physim calibrate` writes: entries of a camera in a scene, and how they were found."""

    size: Size
    intrinsics: IntrinsicsPart
    matrix: Matrix | None = None
    found: FoundPart | None = None
    title: Any = None

    @model_validator(mode="after")
    def _shape(self) -> CameraFilePart:
        _check_matrix(self.matrix)
        return self
