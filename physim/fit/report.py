"""The report of a fit: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from physim.fit.figures import comparison_figure, film_figure, loss_figure
from physim.fit.quantities import interval, shown, weights_words
from physim.fit.result import FitResult
from physim.scene.rundir import write_atomic

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .92rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .warn { background: #fdf3d8; border-left: 4px solid #d9a521; padding: .5rem .8rem; }
.small { color: #666; font-size: .85rem; }
img.wide { width: min(96vw, 88rem); max-width: none; position: relative; left: 50%; transform: translateX(-50%); }
"""
WIDE = 1.8
"""Width over height from which a picture may reach beyond the text."""


def write_report(result: FitResult, path: str | Path, *, pictures: Mapping[str, bytes] | None = None) -> None:
    """Write the report, whole or not at all.

    Args:
        result: the finished fit.
        path: the HTML file.
        pictures: PNG bytes by caption, shown after the values.
    """
    write_atomic(path, report_html(result, pictures=pictures))


def report_html(result: FitResult, *, pictures: Mapping[str, bytes] | None = None) -> str:
    """The report as text."""
    parts = [
        f"<h1>{escape(result.title or result.name)}</h1>",
        f'<p class="small">{escape(result.name)}: {len(result.position.history)} iterations, {result.runs} runs, '
        f"{result.seconds:.1f} s</p>",
        *(f'<p class="warn">{escape(text)}</p>' for text in (*result.warnings, *result.notes)),
        "<h2>Fitted values</h2>",
        _values(result),
    ]
    if result.verdict is not None:
        mark = "small" if result.verdict.ok else "warn"
        parts.append(f'<p class="{mark}">{escape(str(result.verdict))}</p>')
    for caption, png in (pictures or {}).items():
        parts += [image(png, caption, wide=_is_wide(png)), f'<p class="small">{escape(caption)}</p>']
    parts += ["<h2>Agreement</h2>", _scores(result)]
    for comparison in result.comparisons:
        parts.append(image(comparison_figure(comparison), f"{comparison.name}: measured and simulated"))
    for film in result.films:
        parts += [image(film_figure(film), f"{film.name}: overlap of outlines")]
        parts += [f'<p class="small">{escape(line)}.</p>' for line in film.lines()]
    if any(c.band is not None and not c.together for c in result.comparisons):
        parts.append(
            f'<p class="small">Band around a simulated curve: its {100 * result.level:g} % interval, '
            "from what the data leave open of the fitted values and weights.</p>"
        )
    if any(not bool(c.fitted.all()) for c in result.comparisons):
        parts.append('<p class="small">Shaded: held out, never fitted. Grey: stated noise.</p>')
    if result.unseen:
        parts += ["<h2>What video cannot tell</h2>", *(f"<p>{escape(text)}</p>" for text in result.unseen)]
    if len(result.space.names) > 1:
        parts += ["<h2>Correlation of the estimates</h2>", _correlation(result)]
    parts += ["<h2>Search</h2>", image(loss_figure(result.position.attempts), "loss"), _stages(result)]
    parts.append(_starts(result))
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(result.title or result.name)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _values(result: FitResult) -> str:
    level = f"{100 * result.level:g} %"
    combined = result.uncertainty.combined
    rows = [
        [
            e.name,
            shown(e.value, e.unit),
            interval(e),
            shown(e.sd, e.unit),
            *([interval(combined[i]), shown(combined[i].sd, e.unit)] if combined else []),
            "" if e.determined else "not determined",
        ]
        for i, e in enumerate(result.uncertainty.estimates)
    ]
    blank = [""] * (4 if combined else 2)
    rows += [[w.name, weights_words(w), *blank, ""] for w in result.uncertainty.weights]
    if not combined:
        return table(["parameter", "value", f"{level} interval", "standard deviation", ""], rows, numeric=(1, 2, 3))
    head = [f"{level} interval, noise alone", "standard deviation", "with what is assumed", "standard deviation"]
    effects = "".join(f"<li>{escape(result.effect(a))}</li>" for a in result.assumptions)
    note = (
        '<p class="small">Assumed, not fitted; one standard deviation of it, to first order:</p>'
        f'<ul class="small">{effects}</ul>'
    )
    return table(["parameter", "value", *head, ""], rows, numeric=(1, 2, 3, 4, 5)) + note


def _scores(result: FitResult) -> str:
    rows = [
        [
            s.name,
            s.role,
            str(s.count),
            shown(s.rms, s.unit),
            f"{100 * s.relative:.2f} %" if math.isfinite(s.relative) else "",
            f"{s.noise:.2f}",
            f"{s.r2:.4f}" if math.isfinite(s.r2) else "",
            f"{result.uncertainty.effective[s.name]:.0f}"
            if s.role == "fitted" and s.name in result.uncertainty.effective
            else "",
        ]
        for s in result.scores
    ]
    head = [
        "observation",
        "part",
        "values",
        "RMS error",
        "of amplitude",
        "in noise units",
        "R²",
        "effective values",
    ]
    note = (
        '<p class="small">Effective values: how many independent values the residuals are worth, given their '
        "correlation in time and between columns; the intervals are as wide as that implies.</p>"
    )
    return table(head, rows, numeric=(2, 3, 4, 5, 6, 7)) + note


def _correlation(result: FitResult) -> str:
    names = result.space.names
    matrix = result.uncertainty.correlation
    rows = [[n, *(f"{float(matrix[i, j]):+.2f}" for j in range(len(names)))] for i, n in enumerate(names)]
    return table(["", *(n.split(".")[-1] for n in names)], rows, numeric=range(1, len(names) + 1))


def _stages(result: FitResult) -> str:
    """What each stage of the best start did."""
    ended = result.position.attempts[result.best_start].ended
    every = list(result.space.members)
    rows = [
        [
            s["name"],
            "all" if s["parameters"] == every and len(every) > 1 else ", ".join(s["parameters"]),
            str(s["frames"]),
            f"{s['before']:.4g}",
            f"{s['after']:.4g}",
            str(s["iterations"]),
            str(s["runs"]),
            f"{s['seconds']:.1f}",
            s["stop"],
        ]
        for s in ended
    ]
    head = ["stage", "freed", "frames", "loss before", "after", "iterations", "runs", "seconds", "ended because"]
    note = (
        '<p class="small">Frames: times of the records that were fitted. Each stage has its own loss; those of two '
        "stages compare only where both fit the same in the same way.</p>"
    )
    return table(head, rows, numeric=range(2, 8)) + (note if len(ended) > 1 else "")


def _starts(result: FitResult) -> str:
    rows = []
    for i, f in enumerate(result.position.finished):
        pairs = zip(result.space.quantities, result.space.values(f.begin), result.space.values(f.raw), strict=True)
        moves = [f"{q.name.split('.')[-1]} {shown(float(a), q.unit)} → {shown(float(b), q.unit)}" for q, a, b in pairs]
        moves += [f"{name} moved by {by:.2g}" for name, by in result.space.moves(f.raw).items()]
        best = "best" if f is result.best else ""
        rows.append([str(i + 1), ", ".join(moves), f"{f.loss:.4g}", f.stop, best])
    return table(["start", "from → to", "loss", "end", ""], rows, numeric=(2,))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] | range = ()) -> str:
    """A table in HTML; the columns in `numeric` stand to the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        inside = (
            f'<{tag} class="n">{escape(c)}</{tag}>' if i in numeric else f"<{tag}>{escape(c)}</{tag}>"
            for i, c in enumerate(cells)
        )
        return f"<tr>{''.join(inside)}</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(r, 'td') for r in rows)}</table>"


def _is_wide(png: bytes) -> bool:
    """Whether a picture is too wide for the text; its size is in the first chunk of the file."""
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
    return width > WIDE * height


def image(png: bytes, alt: str, *, wide: bool = False) -> str:
    """A picture in the page; a `wide` one reaches beyond the text."""
    style = ' class="wide"' if wide else ""
    return f'<p><img{style} alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
