"""The machine, the table, the JSON file and the plot."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from tools.bench.measure import KINDS, MEMORY, PROGRAMS, Config, Errors
from tools.bench.program_cpp import FLAGS, compiler

ROOT = Path(__file__).resolve().parents[2]


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine() -> dict[str, Any]:
    """Processor, cores, load, commit and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = {"python": platform.python_version()}
    for package in ("warp-lang", "torch", "numpy", "taichi"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    cxx = compiler()
    versions["c++"] = _said(cxx, "--version").splitlines()[0] if cxx else "none"
    changed = bool(_said("git", "status", "--porcelain", "--untracked-files=no"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "commit": _said("git", "rev-parse", "--short", "HEAD") + (" and uncommitted changes" if changed else ""),
        "versions": versions,
    }


def header(told: dict[str, Any]) -> str:
    """The machine in three lines."""
    load = "" if told["load"] is None else f", load {told['load'][0]:.1f} at the start"
    return (
        f"{told['cpu']}, {told['cores']} cores{load}; commit {told['commit']}\n"
        + ", ".join(f"{k} {v}" for k, v in told["versions"].items())
        + f"\nC++ flags: {' '.join(FLAGS)}"
    )


def rows(found: Sequence[Config], names: Sequence[str], threads: Sequence[int], group: Sequence[Any]) -> list[dict]:
    """Rows of one scene and size, for each number of threads; a program of one thread appears beside every number."""
    made = []
    by = {(c.program, c.threads): c for c in found}
    for count in threads:
        ours = by.get(("physim", count))
        for name in names:
            program = PROGRAMS[name]
            row: dict[str, Any] = {"scene": group[0], "particles": group[1], "program": name, "threads": count}
            row["uses"] = count if program.threaded else 1
            config = by.get((name, row["uses"]))
            if config is None:
                row["why"] = program.missing() or "too large"
            elif config.failed:
                row["why"] = config.failed
            else:
                for kind in KINDS:
                    row[kind] = config.median(kind)
                    row[f"{kind}_samples"] = config.samples[kind]
                    row[f"{kind}_substeps"] = config.substeps[kind]
                    row[f"{kind}_ratio"] = ours.median(kind) / row[kind] if ours and not ours.failed else None
            made.append(row)
    return made


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.1 else f"{value:.2g}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}" if value < 1e-2 else f"[red]{value:.0e}[/red]"


def table(made: Sequence[dict], errors: dict[tuple[str, str], Errors]) -> Table:
    """The table to print."""
    title = "million particle-substeps per second; physim / this; relative errors against float64"
    out = Table(title=title, header_style="bold", show_lines=False)
    for name in ("scene", "particles", "program"):
        out.add_column(name, no_wrap=True)
    columns = ("threads", "forward", "fwd + bwd", "ratio fwd", "ratio f + b")
    for name in (*columns, "mean x", "dv0", "dE", "dv0, F = I"):
        out.add_column(name, justify="right", no_wrap=True)
    before = None
    for row in made:
        group = (row["scene"], row["particles"], row["threads"])
        if before not in (None, group):
            out.add_section()
        found = errors.get((row["program"], row["scene"]))
        judged = [_error(e) for e in (found.mean, found.dv0, found.dE, found.falling)] if found else ["-"] * 4
        threads = str(row["uses"]) if row["uses"] == row["threads"] else f"{row['uses']} only"
        start = (row["scene"], f"{row['particles']:,}") if before != group else ("", "")
        if "why" in row:
            out.add_row(*start, row["program"], threads, row["why"], *["-"] * 7)
        else:
            keys = (*KINDS, *(f"{k}_ratio" for k in KINDS))
            out.add_row(*start, row["program"], threads, *(_figure(row[k]) for k in keys), *judged)
        before = group
    return out


def notes(names: Sequence[str]) -> str:
    """What a reader must know."""
    told = [f"{n}: {PROGRAMS[n].note}." for n in names]
    told.append(
        "Errors: 1,000 particles, 20 substeps; dv0 and dE are gradients of a weighted mean position by the initial "
        "velocities and by Young's modulus (water: the bulk modulus); the last column is dv0 in free fall, where F = I."
    )
    told.append(
        f"Every program keeps all that its gradient needs, up to {MEMORY / 2**30:.0f} GiB; particles lie on a lattice, "
        "in memory order at the start."
    )
    return "\n".join(told)


def as_json(
    told: dict[str, Any], settings: dict[str, Any], made: Sequence[dict], errors: dict[tuple[str, str], Errors]
) -> dict[str, Any]:
    """All of it as plain data."""
    judged = [{"program": p, "scene": s, **asdict(e)} for (p, s), e in errors.items()]
    return {
        "machine": told,
        "settings": settings,
        "unit": "million particle-substeps per second",
        "rows": list(made),
        "relative_errors": judged,
    }


def plot(made: Sequence[dict], file: Path) -> None:
    """Cost per particle-substep [ns] against particles, one line per program and number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scenes = list(dict.fromkeys(r["scene"] for r in made))
    threads = sorted({r["uses"] for r in made})
    styles = dict(zip(reversed(threads), ("-", "--", ":", "-."), strict=False))
    figure, axes = plt.subplots(len(scenes), 2, figsize=(11, 4.2 * len(scenes)), squeeze=False, sharey="row")
    for line, scene in zip(axes, scenes, strict=True):
        for ax, kind in zip(line, KINDS, strict=True):
            for index, name in enumerate(PROGRAMS):
                for count in threads:
                    key = (scene, name, count)
                    mine = [r for r in made if (r["scene"], r["program"], r["uses"]) == key and kind in r]
                    points = {r["particles"]: 1e3 / r[kind] for r in mine}
                    if points:
                        of = dict(color=f"C{index}", linestyle=styles.get(count, "-"), marker="o", markersize=4)
                        ax.plot(list(points), list(points.values()), label=f"{name}, {count} thread(s)", **of)
            ax.set(xscale="log", yscale="log", xlabel="particles", title=f"{scene}, {kind}")
            ax.grid(alpha=0.3, which="both")
        line[0].set_ylabel("ns per particle and substep")
    axes[0][1].legend(fontsize=8, loc="upper right")
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)
