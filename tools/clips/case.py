"""What a synthetic clip is made of: one scene, simulated finely for the film and coarsely for the fit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from string import Template

SIZE = 256
"""Width and height of the films [px]."""


class Skin(Enum):
    """How a body's surface is found from its particles."""

    LATTICE = "lattice"
    """Boxes that keep their neighbours: the outermost layers of particles, half a spacing outwards."""
    FIELD = "field"
    """Bodies that flow: where their density falls to half."""


@dataclass(frozen=True)
class Setting:
    """A resolution.

    Attributes:
        dx: cells of the grid [m].
        per_cell: particles per cell.
    """

    dx: float
    per_cell: int = 8


@dataclass(frozen=True)
class Eye:
    """A camera of a clip.

    Attributes:
        at: where it stands [m].
        target: what is in the middle of the picture [m].
        angle: field of view [deg].
    """

    at: tuple[float, float, float]
    target: tuple[float, float, float]
    angle: float

    def text(self) -> str:
        """As a camera of a scene."""
        return (
            f"{{size: [{SIZE}, {SIZE}], look: {{from: {list(self.at)}, at: {list(self.target)}, "
            f"field_of_view: {self.angle} deg}}}}"
        )


@dataclass(frozen=True)
class Sought:
    """A number that is fitted.

    Attributes:
        truth: what the film was made with.
        starts: where the two fits begin.
        bounds: what is allowed.
        within: relative error that is the target; None for a number that is fitted along.
        unit: of these numbers.
        si: one of it [SI].
    """

    truth: float
    starts: tuple[float, float]
    bounds: tuple[float, float]
    within: float | None = None
    unit: str = ""
    si: float = 1.0

    @staticmethod
    def modulus(truth: float, within: float) -> Sought:
        """A positive number, begun at a fifth and at five times of the truth."""
        return Sought(truth, (0.2 * truth, 5.0 * truth), (truth / 10.0, truth * 10.0), within)


@dataclass(frozen=True)
class Case:
    """One clip.

    Attributes:
        name: of its folder.
        title: in words.
        scene: text of the scene without cameras, videos, records and fit; `$dx` and `$per_cell` are the resolution's.
        sought: what is fitted, by its path in the scene; the text has the truth.
        eyes: the cameras, the first one is that of tracks and depth images.
        skin: how surfaces are found.
        colors: of the bodies, in their order, from 0 to 255.
        fine, coarse: resolutions of film and fit.
        background: distance of the wall behind, along the axis of the first camera [m].
    """

    name: str
    title: str
    scene: str
    sought: dict[str, Sought]
    eyes: dict[str, Eye]
    skin: Skin
    fine: Setting
    coarse: Setting
    colors: tuple[tuple[int, int, int], ...] = ((205, 80, 60),)
    background: float = 1.5

    def text(self, setting: Setting) -> str:
        """The scene at a resolution, with the cameras."""
        cameras = "".join(f"  {name}: {eye.text()}\n" for name, eye in self.eyes.items())
        body = Template(self.scene).substitute(dx=f"{setting.dx!r}", per_cell=setting.per_cell)
        return f"title: {self.title}\n{body.strip()}\ncameras:\n{cameras}"
