"""Curves on paper: measured and computed values, residual bands, stress-stretch tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physim.checks import check_finite
from physim.errors import InputError
from physim.view.coloring import PALETTE
from physim.view.files import replacing
from physim.view.recording import as_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _GRID = "#343c46", "#e3e8ed"
_FORMATS = (".png", ".svg", ".pdf")


class Mark(Enum):
    """How a curve is drawn: what was measured as points, what was computed as a line."""

    LINE = "line"
    DASHED = "dashed"
    POINTS = "points"


@dataclass(frozen=True, eq=False)
class Curve:
    """One data series, in the units that the axis labels name.

    Attributes:
        x: abscissae, (m,).
        y: ordinates, (m,).
        label: text in the key; None leaves it out.
        mark: line or points.
        band: lower and upper edge of an interval around the curve, (2, m).
        color: index into the palette (curves that belong together share one) or a colour; the next one unless
            given.
    """

    x: Any
    y: Any
    label: str | None = None
    mark: Mark = Mark.LINE
    band: Any = None
    color: int | str | None = None


@dataclass(frozen=True, eq=False)
class StretchTest:
    """One loading mode: nominal stress [Pa] over stretch [-], measured, computed or both.

    Attributes:
        name: loading mode, such as "uniaxial".
        stretch: stretches of the measurement [-], (m,).
        measured: measured nominal stresses [Pa], (m,).
        model_stretch: stretches of the computed curve [-], (k,); those of the measurement unless given.
        model: computed nominal stresses [Pa], (k,) or None.
        band: interval of the computed stresses [Pa], (2, k) or None.
    """

    name: str
    stretch: Any
    measured: Any = None
    model_stretch: Any = None
    model: Any = None
    band: Any = None


def plot_curves(
    curves: Sequence[Curve],
    path: str | Path | None = None,
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    size: tuple[float, float] = (7.0, 4.2),
    log: str = "",
) -> Figure:
    """Draw curves into one diagram.

    Args:
        curves: the data series.
        path: where to write it (.png, .svg or .pdf); only returned unless given.
        xlabel: abscissa with its unit.
        ylabel: ordinate with its unit.
        title: heading.
        size: width and height [inch].
        log: logarithmic axes: "", "x", "y" or "xy".

    Raises:
        InputError: no curves, lengths that differ, or values that are not finite.
    """
    if not curves:
        raise InputError("plot: there are no curves to draw.")
    figure, axes = _diagram(size)
    following = 0
    for i, curve in enumerate(curves):
        name = f"curve '{curve.label}'" if curve.label else f"curve {i}"
        x, y = as_array(curve.x).reshape(-1), as_array(curve.y).reshape(-1)
        if len(x) != len(y):
            raise InputError(f"{name}: {len(x)} abscissae for {len(y)} ordinates.")
        check_finite(f"{name}, x", x)
        check_finite(f"{name}, y", y)
        if isinstance(curve.color, str):
            color = curve.color
        else:
            index = following if curve.color is None else curve.color
            color, following = PALETTE[index % len(PALETTE)], max(following, index + 1)
        if curve.band is not None:
            low, high = as_array(curve.band)
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0.0)
        if curve.mark is Mark.POINTS:
            axes.plot(x, y, "o", color=color, label=curve.label, ms=_point_size(len(x)), mfc="white", mew=1.2)
        else:
            style = "--" if curve.mark is Mark.DASHED else "-"
            axes.plot(x, y, style, color=color, label=curve.label, lw=1.8)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, loc="left", fontsize=11.5, color=_INK)
    if any(curve.label for curve in curves):
        axes.legend(frameon=False, fontsize=9.5)
    if path is not None:
        write_figure(figure, path)
    return figure


def plot_stress_stretch(
    tests: Sequence[StretchTest],
    path: str | Path | None = None,
    *,
    title: str = "",
    size: tuple[float, float] = (7.0, 4.6),
) -> Figure:
    """Draw stress-stretch tests: measured points, computed lines, one colour per loading mode."""
    if not tests:
        raise InputError("plot: there are no stress-stretch tests to draw.")
    stresses = [as_array(s) for t in tests for s in (t.measured, t.model) if s is not None]
    if not stresses:
        raise InputError("plot: the tests have neither measured nor computed stresses.")
    largest = max(float(np.abs(s).max()) for s in stresses)
    factor, unit = (1e6, "MPa") if largest >= 1e6 else (1e3, "kPa") if largest >= 1e3 else (1.0, "Pa")
    curves = []
    for i, test in enumerate(tests):
        if test.measured is not None:
            label = f"{test.name}, measured"
            curves.append(Curve(test.stretch, as_array(test.measured) / factor, label, Mark.POINTS, color=i))
        if test.model is not None:
            stretch = test.stretch if test.model_stretch is None else test.model_stretch
            band = None if test.band is None else as_array(test.band) / factor
            curves.append(Curve(stretch, as_array(test.model) / factor, f"{test.name}, model", band=band, color=i))
    return plot_curves(curves, path, xlabel="stretch [-]", ylabel=f"nominal stress [{unit}]", title=title, size=size)


def write_figure(figure: Figure, path: str | Path, dpi: float = 150.0) -> Path:
    """Write a figure as .png, .svg or .pdf."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"figure '{path}': the name must end in one of {', '.join(_FORMATS)}.")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return path


def _diagram(size: tuple[float, float]) -> tuple[Figure, Any]:
    """A figure of its own (no global state) in the house style."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9aa5b1")
    axes.tick_params(colors=_INK, labelsize=9.5)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _point_size(count: int) -> float:
    """Smaller marks for longer series [points]."""
    return 5.0 if count <= 60 else 3.0 if count <= 300 else 1.8
