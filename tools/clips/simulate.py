"""The simulation behind a film: particles of every frame, and where each of them was at rest."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physim.scene.build import build
from physim.scene.loader import load_scene
from physim.sim.rollout import rollout
from tools.clips.case import Case, Setting

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Motion:
    """Particles of a simulation.

    Attributes:
        x: positions [m], (frames, n, 3); the first frame is the start.
        rest: positions before anything has moved [m], (n, 3).
        bodies: rows of each body.
        spacings: distance of neighbours at rest, of each body [m].
        frame: time between frames [s].
        dt: substep [s].
    """

    x: Array
    rest: Array
    bodies: tuple[slice, ...]
    spacings: tuple[float, ...]
    frame: float
    dt: float


def simulate(case: Case, setting: Setting) -> Motion:
    """Run a case at a resolution."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.yaml"
        path.write_text(case.text(setting))
        built = build(load_scene(path))
    solver = built.solver

    def seen(state: Any) -> Array:
        return solver.particles(state).x.detach().double().numpy().copy()

    played = rollout(solver, built.state, dt=built.dt, steps=built.steps, every=built.every, save=seen)
    rows, start = [], 0
    for body in built.bodies:
        rows.append(slice(start, start + len(body.x)))
        start += len(body.x)
    return Motion(
        np.stack(played.saved),
        np.asarray(built.x0, dtype=np.float64),
        tuple(rows),
        tuple(float(b.spacing) for b in built.bodies),
        built.dt * built.every,
        built.dt,
    )
