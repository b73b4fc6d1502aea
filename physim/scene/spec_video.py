"""Entries of a scene file about videos, and about what is compared with their pictures."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from physim.scene.fields import Fraction, Name, Part, PositiveLength, PositiveRate, Quantity, Time, fail
from physim.scene.spec_record import RecordPart
from physim.scene.units import NUMBER

Pixel = tuple[int, int]
"""Column and row [px] of the full picture."""


class BackgroundPart(Part):
    """A picture of the place without the body, taken with the same camera."""

    file: str


class MaskPart(Part):
    """How the body is told from the rest of the picture: drawn masks, or what differs from a background.

    Without any of it, the opacity of the pictures counts where they have one, and else the median of the frames is the
    background. `points` [px] on the body, and `others` that are not, tell it by its colours.
    """

    file: str | None = None
    pictures: str | None = None
    background: Literal["median"] | BackgroundPart | None = None
    shadows: bool | None = None
    region: tuple[int, int, int, int] | None = None
    points: tuple[Pixel, ...] = ()
    others: tuple[Pixel, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> MaskPart:
        drawn = [k for k in ("file", "pictures") if getattr(self, k) is not None]
        others = [k for k in ("background", "shadows", "region") if getattr(self, k) is not None]
        if len(drawn) == 2 or (drawn and others):
            raise fail(f"`{drawn[0]}` holds the masks; leave `{(drawn[1:] or others)[0]}` out")
        if self.others and not self.points:
            raise fail("`others` are not on the body; give `points` that are")
        if self.points and (drawn or self.background is not None):
            raise fail("`points` tell the body by its colours; leave `file`, `pictures` and `background` out")
        return self


class VideoPart(Part):
    """A film or a photograph (`file`), or a folder of `pictures` in the order of their names, seen by a camera.

    The scene starts at `begin` of the video. `delay` is added to the times of everything that is observed in it: a
    camera that began late, or a trigger between two frames; it may be fitted. `fps` is needed for pictures;
    for a film it replaces the times in the file, as slow motion needs it.
    """

    file: str | None = None
    pictures: str | None = None
    camera: str
    fps: PositiveRate | None = None
    begin: Time | None = None
    end: Time | None = None
    every: Annotated[int, Field(ge=1)] = 1
    delay: Time = 0.0
    mask: MaskPart = MaskPart()
    source: str | None = None
    license: str | None = None

    @model_validator(mode="after")
    def _given(self) -> VideoPart:
        if (self.file is None) == (self.pictures is None):
            raise fail("needs either a `file`, such as clip.mp4, or a folder of `pictures`")
        if self.pictures is not None and self.fps is None:
            raise fail("pictures in a folder do not say how fast they were taken; add `fps`, such as fps: 30")
        if self.begin is not None and self.end is not None and not self.begin < self.end:
            raise fail(f"the window from {self.begin:g} s to {self.end:g} s is empty")
        return self


class _Pictured(RecordPart):
    """What every observation of a video may say."""

    # These have no table: what was measured comes with the video.
    data: ClassVar[None] = None
    noise: Any = None
    video: str
    body: str | None = None


class _Outline(_Pictured):
    """How a body's outline is read: `size` pixels along the longer side of where it moves.

    `blur` [px of those] widens it, so that a fit from far away sees its way; a stage may change it.
    """

    size: Annotated[int, Field(ge=8, le=256)] = 80
    blur: Annotated[float, Field(ge=0)] = 0.7
    noise: Fraction | None = None
    hidden_by: tuple[Name, ...] = ()


class SilhouettePart(_Outline):
    """The outline: how much of each pixel the body covers."""

    kind: Literal["silhouette"]


class OverlapPart(_Outline):
    """The outline in units of its own size: residuals whose squares add up to 1 - soft intersection over union."""

    kind: Literal["overlap"]


class ColourPart(_Outline):
    """The colours of each pixel: particles keep those that the first frame shows, so that texture moves with the body.

    `noise` [-] is that of the film, of full brightness, unless given.
    """

    kind: Literal["colour"]


class ImageTracksPart(_Pictured):
    """Points followed in the video (`physim track`), bound to the body where they are in the first frame.

    `noise` [px] is that of the file, or half a pixel, unless given.
    """

    kind: Literal["image_tracks"]
    file: str
    noise: Annotated[float, Quantity(NUMBER, above=0.0)] | None = None
    count: Annotated[int, Field(ge=1)] | None = None


class DepthPart(_Pictured):
    """Depth images: a `file` (.npz) or a folder of 16-bit `pictures`, one for each frame of the video."""

    kind: Literal["depth"]
    file: str | None = None
    pictures: str | None = None
    unit: str | None = None
    size: Annotated[int, Field(ge=8, le=256)] = 80
    background: PositiveLength
    noise: PositiveLength | None = None

    @model_validator(mode="after")
    def _given(self) -> DepthPart:
        if (self.file is None) == (self.pictures is None):
            raise fail("needs either a `file` (.npz) or a folder of `pictures` (16 bits)")
        return self


class CloudPart(_Pictured):
    """Point clouds: an .npz of `points` (frames, points, 3) [m], NaN where missing, and `times` [s].

    Each point is compared with the nearest particle, and with `both_ways` also each particle of the surface with the
    nearest point: of all of it, or, for the cloud of one camera, of what faces that `camera` at the start.
    """

    kind: Literal["cloud"]
    video: ClassVar[None] = None  # type: ignore[misc]
    file: str
    both_ways: bool = False
    camera: str | None = None
    noise: PositiveLength | None = None

    @model_validator(mode="after")
    def _both(self) -> CloudPart:
        if self.camera is not None and not self.both_ways:
            raise fail("a `camera` tells which particles are compared with the cloud; add `both_ways: true`")
        return self
