"""A small scene that the tests of the scene room change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCENE = """\
title: A block
solver: mpm
dim: 2
grid: {origin: [0, 0], upper: [0.4, 0.4], dx: 2 cm}
gravity: [0, -9.81]
time: {duration: 20 ms, dt: auto, frame: 10 ms}
materials:
  gel: {law: neo_hookean, E: 50 kPa, nu: 0.3, density: 1 g/cm^3}
bodies:
  block:
    shape: {box: {lower: [0.1, 0.1], upper: [0.2, 0.2]}}
    material: gel
    velocity: [1, 0]
walls: {all: slip, y_min: {type: mirror_no_slip}}
observe:
  height: {kind: position, body: block, direction: [0, 1], noise: 1 mm, data: fall}
data:
  fall:
    columns: {time: ms, height: mm}
    rows: [[0, 150], [10, 149.5], [20, null]]
"""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a run's log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
