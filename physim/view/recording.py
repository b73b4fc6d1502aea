"""What is shown: positions over time with values per particle, and the surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from physim.checks import check_finite
from physim.errors import InputError
from physim.shapes import Shape
from physim.shapes.shape import Array

_MOST_NEIGHBOURS = 4000


@dataclass(frozen=True, eq=False)
class Recording:
    """Particles over time.

    Args:
        frames: positions [m], (T, n, 3); (n, 3) is one frame, (T, n, 2) is plane strain.
        times: time of each frame [s], (T,); frame numbers unless given.
        scalars: values per particle by name, (T, n) or (n,), in SI; whole numbers are categories. Known names
            are `speed` [m/s], `von_mises` and `pressure` [Pa], `J` [-], `material`, `body`.
        labels: text beside a scalar's colours, such as "temperature [K]"; known names have theirs.
        spacing: distance between neighbouring particles at rest [m]; estimated from the first frame unless given.

    Raises:
        InputError: shapes that do not fit, or values that are not finite.
    """

    frames: Any
    times: Any = None
    scalars: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    spacing: float | None = None

    def __post_init__(self) -> None:
        frames = as_array(self.frames)
        if frames.ndim == 2:
            frames = frames[None]
        if frames.ndim != 3 or frames.shape[2] not in (2, 3) or 0 in frames.shape:
            raise InputError(f"frames: expected shape (T, n, 3) [m], got {frames.shape}.")
        if frames.shape[2] == 2:
            frames = np.concatenate([frames, np.zeros_like(frames[..., :1])], axis=2)
        check_finite("frames", frames)
        count, n = frames.shape[:2]
        times = np.arange(count, dtype=float) if self.times is None else as_array(self.times).astype(float).reshape(-1)
        if len(times) != count:
            raise InputError(f"times: {len(times)} times for {count} frames; give one per frame.")
        check_finite("times", times)
        scalars = {}
        for name, values in self.scalars.items():
            array = as_array(values)
            if array.shape not in ((n,), (count, n)):
                raise InputError(f"scalar '{name}': expected shape ({n},) or ({count}, {n}), got {array.shape}.")
            check_finite(f"scalar '{name}'", array)
            scalars[name] = np.broadcast_to(array, (count, n))
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "scalars", scalars)
        if self.spacing is None:
            object.__setattr__(self, "spacing", _typical_spacing(frames[0]))

    @property
    def n(self) -> int:
        """Number of particles."""
        return self.frames.shape[1]

    @property
    def bounds(self) -> Array:
        """Lower and upper corner of everything the particles sweep [m], (2, 3)."""
        return np.stack([self.frames.min(axis=(0, 1)), self.frames.max(axis=(0, 1))])

    @property
    def planar(self) -> bool:
        """Whether all particles share one z for all times: plane strain."""
        return bool(np.ptp(self.frames[..., 2]) == 0.0)

    def at_rate(self, fps: float, playback: float = 1.0) -> list[int]:
        """Indices of the saved frames nearest to the picture times of a video.

        Args:
            fps: pictures per second of the video.
            playback: simulated seconds per second of video; 0.1 is slow motion.
        """
        if not (fps > 0 and playback > 0):
            raise InputError(f"video: fps {fps:g} and playback {playback:g} must be above zero.")
        start, stop = float(self.times[0]), float(self.times[-1])
        pictures = start + np.arange(round((stop - start) * fps / playback) + 1) * playback / fps
        middles = 0.5 * (self.times[1:] + self.times[:-1])
        return [int(k) for k in np.searchsorted(middles, pictures)]


@dataclass(frozen=True, eq=False)
class Obstacle:
    """A collider to draw: its shape, and optionally its pose in each frame, (T, 4, 4) homogeneous matrices."""

    shape: Shape
    poses: Any = None
    color: str = "#8d99a6"
    opacity: float = 1.0


@dataclass(frozen=True)
class Stage:
    """The surroundings of the particles.

    Attributes:
        lower: lower corner of the domain [m], (3,); None leaves the outline out.
        upper: upper corner of the domain [m], (3,).
        up: direction against gravity [-], (3,).
        dim: 2 draws the xy plane face-on; None asks the particles.
        obstacles: colliders.
        floor: whether to draw the ground under a 3D scene.
    """

    lower: Sequence[float] | None = None
    upper: Sequence[float] | None = None
    up: Sequence[float] = (0.0, 1.0, 0.0)
    dim: int | None = None
    obstacles: Sequence[Obstacle] = ()
    floor: bool = True

    def __post_init__(self) -> None:
        if (self.lower is None) != (self.upper is None):
            raise InputError("stage: lower and upper corner of the domain go together; give both or neither.")
        if self.dim not in (None, 2, 3):
            raise InputError(f"stage: dim {self.dim!r} is not allowed; use 2 or 3.")
        if not np.linalg.norm(np.asarray(self.up, dtype=float)) > 0.0:
            raise InputError("stage: up is the zero vector; give the direction against gravity, such as (0, 1, 0).")

    @property
    def domain(self) -> Array | None:
        """Corners of the domain [m], (2, 3), or None."""
        if self.lower is None or self.upper is None:
            return None
        return np.array([[*self.lower, 0.0][:3], [*self.upper, 0.0][:3]], dtype=np.float64)


def as_array(values: Any) -> np.ndarray[Any, Any]:
    """A numpy array of any tensor or sequence, floats as float64."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _typical_spacing(points: Array) -> float:
    """Median distance to the nearest neighbour [m], from a sample of the particles."""
    if len(points) < 2:
        return 0.01
    from scipy.spatial import cKDTree

    some = points[:: max(1, len(points) // _MOST_NEIGHBOURS)]
    nearest = cKDTree(points).query(some, k=2)[0][:, 1]
    typical = float(np.median(nearest))
    return typical if typical > 0.0 else max(float(np.ptp(points, axis=0).max()), 1e-3) / len(points) ** (1 / 3)
