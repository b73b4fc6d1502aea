"""Figures of the report as PNG bytes, drawn without a display."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physim.fit.attempt import Attempt
from physim.fit.films import FilmScore
from physim.fit.quantities import PREFIXED
from physim.observe.record import Comparison

COLOURS = ("#1f5fa8", "#c8553d", "#3c8d5a", "#8a5fb0", "#b8860b", "#4f9da6")
GREY, SHADE = "#9a9a9a", "#f2e6c8"
COLUMNS = 6
"""Columns of one observation drawn; those that move most."""
DECADES = 3.0
"""Largest over smallest loss from which the axis is logarithmic."""
WIDEST = 4
"""Stages side by side."""
PREFIXES = ((1e-6, 1e6, "µ"), (1e-3, 1e3, "m"), (1.0, 1.0, ""), (1e3, 1e-3, "k"), (1e6, 1e-6, "M"))


def loss_figure(attempts: Sequence[Attempt]) -> bytes:
    """Loss against iteration of each stage by itself, one line per start: losses of two stages are not one curve."""
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys((r["stage"], r["name"]) for a in attempts for r in a.history))
    columns = max(1, min(len(names), WIDEST))
    figure, panels = _grid(-(-len(names) // columns), columns)
    for axes, (stage, name) in zip(panels, names, strict=False):
        longest = 0
        for a in attempts:
            losses = [r["loss"] if r["loss"] < math.inf else math.nan for r in a.history if r["stage"] == stage]
            before = a.ended[stage]["before"] if stage < len(a.ended) else a.before if stage == a.stage else math.nan
            axes.plot(range(len(losses) + 1), [before, *losses], ".-", ms=4, lw=1.0, color=COLOURS[a.start % 6])
            longest = max(longest, len(losses))
        shown = [y for line in axes.get_lines() for y in line.get_ydata() if 0.0 < y < math.inf]
        if shown and max(shown) > DECADES * min(shown):
            axes.set_yscale("log")
        else:
            axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_xlim(-0.3, max(longest, 1) + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.set_title(str(name), loc="left", fontsize=9)
        axes.set_xlabel("iteration", fontsize=8)
    for axes in panels[: len(names) : columns]:
        axes.set_ylabel("loss [-]", fontsize=8)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    if len(attempts) > 1 and names:
        lines = panels[0].get_lines()
        panels[0].legend(lines, [f"start {a.start + 1}" for a in attempts], frameon=False, fontsize=8)
    return png(figure)


def together_figure(comparison: Comparison) -> bytes:
    """Error of each frame of a picture or cloud over all its columns, root mean square; held-out frames shaded."""
    bare = comparison.unit in ("", "1")
    difference = comparison.residuals() if bare else comparison.predicted - comparison.measured
    error = _rms(difference.detach(), comparison.valid)
    noise = torch.ones_like(error) if bare else _rms(comparison.sigma, comparison.valid)
    told = torch.isfinite(error)
    largest = float(error[told].max()) if bool(told.any()) else 1.0
    factor, unit = _readable(largest, comparison.unit) if comparison.unit in PREFIXED else (1.0, comparison.unit)
    figure, (axes,) = blank(1, 2.4)
    at = comparison.at[told].tolist()
    axes.plot(at, (error[told] * factor).tolist(), ".-", ms=4, lw=1.2, color=COLOURS[0], label="error")
    axes.plot(at, (noise[told] * factor).tolist(), "--", lw=1.0, color=GREY, label="stated noise")
    for begin, end in _held_spans(comparison):
        axes.axvspan(begin, end, color=SHADE, alpha=0.6, lw=0)
    axes.set_ylim(bottom=0.0)
    if len(at) > 1:
        axes.set_xlim(min(at), max(at))
    axes.set_ylabel(f"{comparison.name}: RMS error [{'noise' if bare else unit}]", fontsize=9)
    axes.set_xlabel(comparison.label)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return png(figure)


def film_figure(film: FilmScore) -> bytes:
    """Overlap of outlines, and the distance between them, in each frame of a video; held-out frames shaded."""
    figure, (top, bottom) = blank(2, 3.2)
    top.plot(film.times, film.iou, ".-", ms=4, lw=1.2, color=COLOURS[0])
    bottom.plot(film.times, film.offset, ".-", ms=4, lw=1.2, color=COLOURS[0])
    for begin, end in _spans(film.times, film.held):
        for axes in (top, bottom):
            axes.axvspan(begin, end, color=SHADE, alpha=0.6, lw=0)
    if len(film.times) > 1:
        top.set_xlim(film.times[0], film.times[-1])
    top.set_ylim(top=1.0)
    bottom.set_ylim(bottom=0.0)
    top.set_ylabel(f"{film.name}: IoU [-]", fontsize=9)
    bottom.set_ylabel("outline off by [px]", fontsize=9)
    bottom.set_xlabel("time [s]")
    return png(figure)


def comparison_figure(comparison: Comparison) -> bytes:
    """Measured and simulated curves above, their difference below; held-out parts shaded.

    Of what is told together, the error of each frame.
    """
    if comparison.together:
        return together_figure(comparison)
    scale, unit = _prefix(comparison)
    figure, (top, bottom) = blank(2, 4.2, ratios=(2.2, 1.0))
    x = comparison.at.tolist()
    columns = _shown(comparison)
    for i, column in enumerate(columns):
        colour = COLOURS[i % len(COLOURS)]
        keep = comparison.valid[:, column]
        at = comparison.at[keep].tolist()
        name = comparison.columns[column] + " " if len(columns) > 1 else ""
        measured, predicted = comparison.measured[keep, column], comparison.predicted.detach()[keep, column]
        top.plot(at, (measured * scale).tolist(), "o", ms=3, mfc="none", color=colour, label=f"{name}measured")
        top.plot(at, (predicted * scale).tolist(), "-", lw=1.3, color=colour, label=f"{name}simulated")
        if comparison.band is not None:
            half = comparison.band[keep, column]
            half = torch.where(torch.isfinite(half), half, math.nan)
            low, high = (predicted + s * half for s in (-1.0, 1.0))
            top.fill_between(at, (low * scale).tolist(), (high * scale).tolist(), color=colour, alpha=0.2, lw=0)
        bottom.plot(at, ((predicted - measured) * scale).tolist(), ".-", ms=3, lw=0.8, color=colour)
    sigma = float(comparison.sigma.median()) * scale
    bottom.axhspan(-sigma, sigma, color=GREY, alpha=0.25, lw=0)
    for begin, end in _held_spans(comparison):
        for axes in (top, bottom):
            axes.axvspan(begin, end, color=SHADE, alpha=0.6, lw=0)
    top.set_ylabel(f"{comparison.name} [{unit}]" if unit else comparison.name)
    bottom.set_ylabel(f"difference [{unit}]" if unit else "difference")
    bottom.set_xlabel(comparison.label)
    if len(x) > 1:
        for axes in (top, bottom):
            axes.set_xlim(min(x), max(x))
    top.legend(frameon=False, fontsize=8, ncols=2)
    return png(figure)


def blank(rows: int, height: float, ratios: Sequence[float] | None = None) -> tuple[Any, list[Any]]:
    """An empty figure with axes one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained")
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=ratios)
    for axes in grid[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, list(grid[:, 0])


def _grid(rows: int, columns: int) -> tuple[Any, list[Any]]:
    """An empty figure with axes that share nothing, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.3 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, which="both")
    return figure, panels


def png(figure: Any) -> bytes:
    """A figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()


def _prefix(comparison: Comparison) -> tuple[float, str]:
    """Factor and unit in which the values are between about 1 and 1000."""
    if not comparison.unit:
        return 1.0, ""
    size = float(comparison.measured[comparison.valid].abs().max()) if bool(comparison.valid.any()) else 1.0
    return _readable(size, comparison.unit)


def _readable(size: float, unit: str) -> tuple[float, str]:
    """Factor and unit in which a size is between about 1 and 1000."""
    for below, factor, letter in PREFIXES:
        if size < below * 1000.0:
            return factor, letter + unit
    return 1.0, unit


def _shown(comparison: Comparison) -> list[int]:
    """Columns to draw: those whose measurement varies most, in order."""
    spread = comparison.measured.amax(0) - comparison.measured.amin(0)
    return sorted(torch.argsort(spread, descending=True)[:COLUMNS].tolist())


def _rms(values: Tensor, valid: Tensor) -> Tensor:
    """Root mean square over the valid columns, (m,); NaN where there is none."""
    return (torch.where(valid, values, 0.0).square().sum(1) / valid.sum(1)).sqrt()


def _held_spans(comparison: Comparison) -> list[tuple[float, float]]:
    """Stretches of the abscissa where nothing is fitted."""
    return _spans(comparison.at.tolist(), (~comparison.fitted.any(1)).tolist())


def _spans(at: Sequence[float], held: Sequence[bool]) -> list[tuple[float, float]]:
    """First and last abscissa of each stretch of true values."""
    spans, begin = [], None
    for i, out in enumerate(held):
        if out and begin is None:
            begin = i
        if not out and begin is not None:
            spans.append((at[begin], at[i - 1]))
            begin = None
    if begin is not None:
        spans.append((at[begin], at[-1]))
    return spans
