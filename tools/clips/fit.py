"""Fits of the clips: from which pictures, from which start, how far off the truth, how long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from physim.fit.run import fit_scene
from physim.scene.loader import load_scene
from tools.clips.case import Case, Setting

OBSERVED = {
    "silhouette": ("shape",),
    "two silhouettes": ("shape", "other"),
    "tracks": ("points",),
    "tracks, silhouette": ("points", "shape"),
    "depth, silhouette": ("depth", "shape"),
}
"""What is compared, by the name in the table."""


@dataclass(frozen=True)
class Found:
    """One fitted number.

    Attributes:
        case, observed, start, seed: of which fit; start is 0 (low) or 1 (high).
        name: path in the scene.
        truth, value, low, high: in SI.
        target: relative error asked for, or None.
        seconds: wall time of the fit.
        runs: simulations.
        stop: why it ended, with the loss.
    """

    case: str
    observed: str
    start: int
    seed: int
    name: str
    truth: float
    value: float
    low: float
    high: float
    target: float | None
    seconds: float
    cpu: float
    runs: int
    stop: str

    @property
    def error(self) -> float:
        """Relative to the truth."""
        return self.value / self.truth - 1.0

    @property
    def held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low <= self.truth <= self.high


def scene_text(case: Case, observed: str, start: int, setting: Setting | None = None) -> str:
    """The scene that is fitted, beside the films."""
    first, second, *_ = case.eyes
    kinds = {
        "shape": "{kind: silhouette, video: first}",
        "other": "{kind: silhouette, video: second}",
        "points": "{kind: image_tracks, video: first, file: tracks.npz}",
        "depth": f"{{kind: depth, video: first, file: depth.npz, background: {case.background} m}}",
    }
    names = OBSERVED[observed]
    films = {"first": first} | ({"second": second} if "other" in names else {})
    lines = [case.text(setting or case.coarse), "videos:"]
    lines += [
        f"  {k}: {{file: {eye}.mp4, camera: {eye}, mask: {{background: {{file: {eye}.empty.png}}}}}}"
        for k, eye in films.items()
    ]
    lines += ["observe:", *(f"  {n}: {kinds[n]}" for n in names), "fit:", "  parameters:"]
    for name, sought in case.sought.items():
        low, high = sought.bounds
        begin = sought.starts[start]
        unit = f" {sought.unit}" if sought.unit else ""
        lines.append(f"    {name}: {{start: {begin:.6g}{unit}, bounds: [{low:.6g}{unit}, {high:.6g}{unit}]}}")
    return "\n".join(lines) + "\n"


def fit(case: Case, folder: Path, observed: str, start: int, *, seed: int = 0, threads: int = 2) -> list[Found]:
    """Fit a clip; `folder` holds its films."""
    path = folder / f"{observed.replace(', ', '_').replace(' ', '_')}_{start}.yaml"
    path.write_text(scene_text(case, observed, start))
    began, busy = time.perf_counter(), time.process_time()
    result = fit_scene(load_scene(path), threads=threads, quiet=True, out=None)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    found = []
    for name, sought in case.sought.items():
        e = result.overall(name)
        stop = f"{result.best.stop}; loss {result.best.loss:.4g}"
        truth = sought.truth * sought.si
        told = (truth, e.value, e.low, e.high, sought.within, seconds, busy, result.runs, stop)
        found.append(Found(case.name, observed, start, seed, name, *told))
    return found
