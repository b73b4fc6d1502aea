"""The picture of `tools.bench.scale`: one panel per axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

X = {"box": "nodes", "particles": "particles", "substeps": "substeps", "worlds": "worlds", "threads": "threads"}
LABELS = {
    "box": "grid nodes along each axis",
    "particles": "particles",
    "substeps": "substeps of a rollout",
    "worlds": "worlds in one launch",
    "threads": "threads",
}


def plot(found: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> None:
    """Draw cost against each axis; per world where worlds are varied."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(1, len(found), figsize=(3.6 * len(found), 3.4), squeeze=False)
    for ax, (axis, rows) in zip(axes[0], found.items(), strict=True):
        per_world = axis == "worlds"
        for kind, name, color in (("forward", "forward", "C0"), ("gradient", "forward + backward", "C1")):
            key = f"{kind}_us_per_world" if per_world else f"{kind}_ns"
            line = [r for r in rows if "two bodies" not in r["label"]]
            ax.plot([r[X[axis]] for r in line], [r[key] for r in line], "o-", color=color, label=name, markersize=4)
            apart = [r for r in rows if r not in line]
            ax.plot([r[X[axis]] for r in apart], [r[key] for r in apart], "x", color=color)
        ax.set(xscale="log", yscale="log", xlabel=LABELS[axis], title=axis)
        ax.set_ylabel("us per world and substep" if per_world else "ns per particle and substep")
        ticks = sorted({r[X[axis]] for r in rows})
        ax.set_xticks(ticks, [f"{t:,}" for t in ticks], rotation=30, fontsize=7)
        ax.minorticks_off()
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)
