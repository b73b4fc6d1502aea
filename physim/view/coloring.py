"""Colours of particles, and the legend that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.errors import InputError, nearest
from physim.shapes.shape import Array
from physim.view.recording import Recording

# Distinct, friendly to colour blindness (after Okabe and Ito), in an order that suits neighbours.
PALETTE = ("#2f7fc1", "#e08a2e", "#2a9d76", "#c8553d", "#8e6bbf", "#c9a227", "#5ab4d6", "#7a7f87")

_LABELS = {
    "speed": ("speed", "m/s"),
    "von_mises": ("von Mises stress", "Pa"),
    "pressure": ("pressure", "Pa"),
    "J": ("volume ratio J", ""),
    "density": ("density", "kg/m^3"),
}
_DIVERGING = {"J": 1.0}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"))
# Share of values at each end that may leave the colour range, so that one fast particle does not dim the rest.
_OUTLIERS = 1.0


@dataclass(frozen=True, eq=False)
class Legend:
    """What the colours mean: a range with a label, or named categories."""

    label: str
    low: float = 0.0
    high: float = 0.0
    gradient: Array | None = None
    entries: Sequence[tuple[str, tuple[int, int, int]]] = ()


@dataclass(frozen=True, eq=False)
class Coloring:
    """Colours per frame, (T, n, 3) uint8 behind `of`, and their legend."""

    recording: Recording
    legend: Legend | None
    name: str | None
    table: Array
    low: float = 0.0
    high: float = 1.0

    def of(self, frame: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Colours of one frame, (n, 3) uint8."""
        count = len(self.table)
        if self.name is None:
            index = np.zeros(self.recording.n, dtype=np.int64)
        else:
            values = self.recording.scalars[self.name][frame]
            if self.high == self.low:
                index = np.full(self.recording.n, count // 2)
            else:
                share = (values - self.low) / (self.high - self.low)
                index = np.clip((share * (count - 1)).round(), 0, count - 1).astype(np.int64)
        return (255.0 * self.table[index]).round().astype(np.uint8)


def color_by(recording: Recording, color: str | None, limits: tuple[float, float] | None = None) -> Coloring:
    """Choose colours.

    Args:
        recording: the particles.
        color: a scalar's name or a colour such as "#2f7fc1"; None takes categories if there are any, else the
            first scalar, else one colour.
        limits: ends of the colour range, in SI; the values of all frames without outliers unless given.

    Raises:
        InputError: neither a scalar of the recording nor a colour.
    """
    from matplotlib.colors import is_color_like, to_rgb

    scalars = recording.scalars
    if color is None:
        categories = [k for k, v in scalars.items() if v.dtype.kind in "iub"]
        color = (categories or list(scalars) or [PALETTE[0]])[0]
    if color not in scalars:
        if not is_color_like(color):
            raise InputError(f"color: '{color}' is neither a colour nor a scalar here.{nearest(color, scalars)}")
        return Coloring(recording, None, None, np.array([to_rgb(color)]))
    values = scalars[color]
    if values.dtype.kind in "iub":
        return _categories(recording, color, values)
    text, unit = _LABELS.get(color, (color, ""))
    low, high = limits or _limits(values, _DIVERGING.get(color))
    table = gradient("RdBu" if color in _DIVERGING else "viridis")
    factor, prefix = _prefix(max(abs(low), abs(high))) if unit and "^" not in unit else (1.0, "")
    label = recording.labels.get(color) or (f"{text} [{prefix}{unit}]" if unit else text)
    if color in recording.labels:
        factor = 1.0
    legend = Legend(label, low / factor, high / factor, table)
    return Coloring(recording, legend, color, table, low, high)


def gradient(name: str) -> Array:
    """256 colours of a named colour map, (256, 3) in 0 to 1."""
    import matplotlib

    return matplotlib.colormaps[name](np.linspace(0.0, 1.0, 256))[:, :3]


def _categories(recording: Recording, name: str, values: np.ndarray[Any, Any]) -> Coloring:
    from matplotlib.colors import to_rgb

    kinds = np.unique(values)
    high = int(kinds.max())
    low = int(kinds.min())
    table = np.array([to_rgb(PALETTE[k % len(PALETTE)]) for k in range(high - low + 1)])
    entries = [(f"{name} {k}", _bytes(table[k - low])) for k in kinds.tolist()]
    label = recording.labels.get(name, "")
    named = [part.strip() for part in label.split(",")]
    if label and len(named) == len(entries):  # "jelly, sand": names in the order of the numbers
        entries = [(word, rgb) for word, (_, rgb) in zip(named, entries, strict=True)]
    legend = Legend(name, entries=entries) if len(entries) > 1 else None
    return Coloring(recording, legend, name, table, float(low), float(high))


def _bytes(rgb: Array) -> tuple[int, int, int]:
    r, g, b = (round(255 * float(c)) for c in rgb)
    return (r, g, b)


def _limits(values: Array, middle: float | None) -> tuple[float, float]:
    few = values.reshape(-1)[:: max(1, values.size // 1_000_000)]
    low, high = (float(v) for v in np.percentile(few, (_OUTLIERS, 100.0 - _OUTLIERS)))
    if middle is not None:
        reach = max(abs(low - middle), abs(high - middle), 1e-12)
        return middle - reach, middle + reach
    if low >= 0.0 and low < 0.3 * high:
        low = 0.0
    return low, high


def _prefix(size: float) -> tuple[float, str]:
    return next(((f, p) for f, p in _PREFIXES if size >= f), (1.0, ""))
