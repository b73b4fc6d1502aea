"""A small scene with synthetic records for the tests of fitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from physim.fit.run import make_problem
from physim.scene.loader import load_scene

TRUTH = {"materials.jelly.E": 30e3, "bodies.block.velocity.y": -1.4}

BLOCK = """
title: A soft block bounces
dim: 2
precision: double
grid: {dx: 10 cm, origin: [0, 0], upper: [1, 1]}
gravity: [0, -9.81]
time: {duration: DURATION, frame: 20 ms}
walls: {all: mirror_slip}
materials:
  jelly: MATERIAL
bodies:
  block: {shape: {box: {lower: [0.3, 0.1], upper: [0.7, 0.5]}}, material: jelly, velocity: [0, -1]}
"""


def block(duration: str, material: str) -> str:
    """A scene without anything to observe or to fit."""
    return BLOCK.replace("DURATION", duration).replace("MATERIAL", material)


BOUNCE = (
    block("0.3 s", "{law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000}")
    + """
observe:
  height: {kind: position, body: block, direction: [0, 1], data: height_a, values: [y], noise: 1 mm}
  corners:
    {kind: tracks, points: {a: [0.3, 0.5], b: [0.7, 0.5]}, axes: y, data: corners_a, noise: 1 mm,
     holdout: [[0.25, 1]]}
recordings:
  a: {}
  b: {set: {gravity: [0, -5], observe.height.data: height_b, observe.corners.data: corners_b}}
  c: {role: holdout, set: {gravity: [0, -15], observe.height.data: height_c, observe.corners.data: corners_c}}
fit:
  parameters: {materials.jelly.E: {bounds: [1 kPa, 1 MPa]}, bodies.block.velocity.y: {}}
  iterations: 8
"""
)


def bounce(folder: Path, *, noise: float = 1e-3, seed: int = 0, recordings: bool = True) -> Path:
    """Write the scene with records simulated at `TRUTH`; returns its path."""
    text = BOUNCE
    if not recordings:
        start, stop = text.index("recordings:"), text.index("fit:")
        text = text[:start] + text[stop:]
    names = "abc" if recordings else "a"
    times = np.linspace(0.0, 0.29, 20)
    empty = {n: np.zeros((len(times), 4)) for n in names}
    path = folder / "bounce.yaml"
    path.write_text(text + _tables(times, empty))
    problem = make_problem(load_scene(path))
    raw = problem.space.replaced(TRUTH)
    rng = np.random.default_rng(seed)
    for name in names:
        with torch.no_grad():
            height, corners = problem.predict(name if recordings else "", raw)
        exact = torch.cat([height.predicted, corners.predicted], dim=1).numpy()
        empty[name][:, 0:3] = exact + noise * rng.normal(size=exact.shape)
    path.write_text(text + _tables(times, empty))
    return path


def _tables(times: np.ndarray, values: dict[str, np.ndarray]) -> str:
    lines = ["data:"]
    for name, rows in values.items():
        height = ", ".join(f"[{t:.4f}, {r[0]:.6f}]" for t, r in zip(times, rows, strict=True))
        corners = ", ".join(f"[{t:.4f}, {r[1]:.6f}, {r[2]:.6f}]" for t, r in zip(times, rows, strict=True))
        lines.append(f"  height_{name}: {{columns: {{time: s, y: m}}, rows: [{height}]}}")
        lines.append(f"  corners_{name}: {{columns: {{time: s, a: m, b: m}}, rows: [{corners}]}}")
    return "\n".join(lines) + "\n"
