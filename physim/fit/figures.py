"""Figures of the report as PNG bytes, drawn without a display."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physim.observe.record import Comparison

COLOURS = ("#1f5fa8", "#c8553d", "#3c8d5a", "#8a5fb0", "#b8860b", "#4f9da6")
GREY = "#9a9a9a"
COLUMNS = 6
"""Columns of one observation drawn; those that move most."""
PREFIXES = ((1e-6, 1e6, "µ"), (1e-3, 1e3, "m"), (1.0, 1.0, ""), (1e3, 1e-3, "k"), (1e6, 1e-6, "M"))


def loss_figure(history: Sequence[dict[str, Any]]) -> bytes:
    """Loss against iteration, one line per start, stages marked."""
    figure, (axes,) = blank(1, 2.8)
    for start in sorted({r["start"] for r in history}):
        rows = [r for r in history if r["start"] == start]
        losses = [r["loss"] if r["loss"] < float("inf") else float("nan") for r in rows]
        axes.plot(range(1, len(rows) + 1), losses, ".-", color=COLOURS[start % 6], label=f"start {start + 1}")
        for i in range(1, len(rows)):
            if rows[i]["stage"] != rows[i - 1]["stage"]:
                axes.axvline(i + 0.5, color=GREY, lw=0.6, ls=":")
    axes.set_yscale("log")
    axes.set_xlabel("iteration (dotted: next stage)")
    axes.set_ylabel("loss [-]")
    if len({r["start"] for r in history}) > 1:
        axes.legend(frameon=False, fontsize=8)
    return png(figure)


def comparison_figure(comparison: Comparison) -> bytes:
    """Measured and simulated curves above, their difference below; held-out parts shaded."""
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
            axes.axvspan(begin, end, color="#f2e6c8", alpha=0.6, lw=0)
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
    for below, factor, letter in PREFIXES:
        if size < below * 1000.0:
            return factor, letter + comparison.unit
    return 1.0, comparison.unit


def _shown(comparison: Comparison) -> list[int]:
    """Columns to draw: those whose measurement varies most, in order."""
    spread = comparison.measured.amax(0) - comparison.measured.amin(0)
    return sorted(torch.argsort(spread, descending=True)[:COLUMNS].tolist())


def _held_spans(comparison: Comparison) -> list[tuple[float, float]]:
    """Stretches of the abscissa where nothing is fitted."""
    held: Tensor = ~comparison.fitted.any(1)
    spans, begin = [], None
    for i, out in enumerate(held.tolist()):
        if out and begin is None:
            begin = i
        if not out and begin is not None:
            spans.append((float(comparison.at[begin]), float(comparison.at[i - 1])))
            begin = None
    if begin is not None:
        spans.append((float(comparison.at[begin]), float(comparison.at[-1])))
    return spans
