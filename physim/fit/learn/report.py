"""The report of a learned law: one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path

from physim.fit.figures import COLOURS, GREY, blank, png
from physim.fit.learn.band import Band
from physim.fit.learn.outcome import LearnResult
from physim.fit.material_file import quantity
from physim.fit.report import STYLE, image, table
from physim.scene.rundir import write_atomic

WORDS = {"uniaxial": "stretch [-]", "simple_shear": "amount of shear [-]"}


def write_report(result: LearnResult, path: str | Path) -> None:
    """Write the report, whole or not at all."""
    write_atomic(path, report_html(result))


def report_html(result: LearnResult) -> str:
    """The report as text."""
    one, about = result.learned, result.about
    dims = {k: p.dimension for k, p in result.spec.params.items()}
    parts = [
        f"<h1>{escape(result.title)}</h1>",
        f'<p class="small">{escape(result.name)}: {escape(about.source or "")}; {result.seconds:.1f} s, '
        f"{escape(one.stopped)}</p>",
        *(f'<p class="warn">{escape(text)}</p>' for text in (*result.warnings, *result.notes)),
        "<h2>The law</h2>",
        table(["", "value"], [[k, str(quantity(v, dims[k]))] for k, v in result.values().items()], numeric=(1,)),
    ]
    if result.verdict is not None:
        mark = "small" if result.verdict.ok else "warn"
        parts.append(f'<p class="{mark}">{escape(str(result.verdict))}</p>')
    for band in result.bands:
        parts.append(image(band_figure(band), f"{band.test}: stress with two standard deviations"))
    if result.bands:
        parts.append(
            '<p class="small">Band: two standard deviations of what the motion leaves open in the coefficients that '
            "the stress is linear in; inner weights are taken as they are. Shaded: strains that were not seen.</p>"
        )
    if result.over_time:
        parts += ["<h2>Prediction of what is held out</h2>", image(error_figure(result), "position error over time")]
    rows = [[k, str(v)] for k, v in about.errors.items()]
    parts += [
        table(["error", ""], rows, numeric=(1,)) if rows else "",
        "<h2>Checks</h2>",
        table(["property", "measured"], [[k, str(v)] for k, v in about.checks.items()], numeric=(1,)),
        "<h2>Rounds</h2>",
        _rounds(result),
    ]
    head = f'<meta charset="utf-8"><title>{escape(result.title)}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _rounds(result: LearnResult) -> str:
    rows = [
        [
            r["name"],
            str(r["round"]),
            f"{r['before']:.4g}" if "before" in r else "",
            f"{r['misfit']:.4g}" if "misfit" in r else "",
            f"{r['held_out']:.4g}" + (" *" if r["better"] else ""),
            f"{r['seconds']:.1f}",
        ]
        for r in result.learned.history
    ]
    head = ["runs", "round", "misfit before", "after", "held out", "seconds"]
    note = '<p class="small">In units of the noise; * the best prediction so far of what is held out.</p>'
    return table(head, rows, numeric=(1, 2, 3, 4, 5)) + note


def band_figure(band: Band) -> bytes:
    """Stress with its band over stretch; strains that were not seen are shaded."""
    figure, (axes,) = blank(1, 3.2)
    x = band.stretch.tolist()
    low, high = ((band.stress + k * band.sd) / 1e3 for k in (-2.0, 2.0))
    axes.fill_between(x, low.tolist(), high.tolist(), color=COLOURS[0], alpha=0.25, lw=0)
    axes.plot(x, (band.stress / 1e3).tolist(), color=COLOURS[0], lw=1.4)
    for begin, end in ((x[0], band.seen[0]), (band.seen[1], x[-1])):
        if end > begin:
            axes.axvspan(begin, end, color="#f2e6c8", alpha=0.6, lw=0)
    axes.axhline(0.0, color=GREY, lw=0.5)
    axes.set_xlim(x[0], x[-1])
    axes.set_xlabel(f"{band.test.replace('_', ' ')}: {WORDS[band.test]}")
    axes.set_ylabel("nominal stress [kPa]")
    return png(figure)


def error_figure(result: LearnResult) -> bytes:
    """Root mean square position error of particles and axes over time, one line per trajectory."""
    figure, (axes,) = blank(1, 3.0)
    for i, (name, (times, errors)) in enumerate(result.over_time.items()):
        axes.plot(times, [1e6 * e for e in errors], color=COLOURS[i % len(COLOURS)], lw=1.3, label=name)
    axes.set_xlabel("time [s]")
    axes.set_ylabel("position error, RMS [µm]")
    axes.set_ylim(bottom=0.0)
    if len(result.over_time) > 1:
        axes.legend(frameon=False, fontsize=8)
    return png(figure)
