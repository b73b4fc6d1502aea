"""A block that hangs by its top: how far the same law lets it stretch as particles on a grid, elements, and a field."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from physim.laws.material import Material
from physim.scene.build import build
from physim.scene.loader import load_scene
from physim.sim.rollout import rollout
from physim.solvers.insr.body import Body
from physim.solvers.insr.fields import Box
from tools.insr.elements import Elements
from tools.insr.refined import reference
from tools.insr.tables import judged, show

LENGTH, WIDTH, LASTS = 0.2, 0.1, 4.0
"""Of the block [m], and how long the particles are given to come to rest [s]."""
SCENE = f"""
title: A block that hangs
solver: mpm
dim: 2
gravity: [0, -9.81]
precision: double
grid: {{dx: 1 cm, origin: [0, 0], upper: [0.2, 0.3]}}
time: {{duration: {LASTS} s, frame: 0.1 s}}
materials:
  gel: {{law: LAW, E: 6 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  block:
    material: gel
    shape: {{box: {{lower: [0.05, {0.3 - LENGTH}], upper: [{0.05 + WIDTH}, 0.3]}}}}
walls: {{y_max: {{type: mirror_no_slip, position: 0.3}}}}
"""
PLACES = ((0.1, 0.3 - LENGTH), (0.05, 0.3 - 0.5 * LENGTH))
"""The middle of the lower side, whose sag is compared, and of the left side, which draws in."""
VISCOSITY = 200.0
"""Lets the particles come to rest, and bears nothing there [Pa s]."""


def hanging(laws: list[str], cells: list[int], width: int) -> None:
    """Print what all find, and whether they agree to 1 %."""
    with tempfile.TemporaryDirectory() as folder:
        for law in laws:
            path = Path(folder) / f"{law}.yaml"
            path.write_text(SCENE.replace("LAW", law))
            rows, moved = [], torch.ones(2)
            for count in cells:
                began = time.process_time()
                damped = f"materials.gel.viscous={{law: newtonian, viscosity: {VISCOSITY} Pa s}}"
                moved, speed = _particles(path, [damped, f"grid.dx={LENGTH / count} m"])
                told = f"{time.process_time() - began:.1f}", f"still {speed:.0e} m/s"
                rows.append([f"particles, {count} cells long", *_millimetres(moved), *told])
            began = time.process_time()
            given = _elements(law)
            rows.append(["elements, extrapolated", *_millimetres(given), f"{time.process_time() - began:.1f}", ""])
            began = time.process_time()
            field = _field(path, width)
            rows.append([f"field {width} x 2", *_millimetres(field), f"{time.process_time() - began:.1f}", ""])
            show(f"A hanging block, {law}", ["", "lower end sags [mm]", "side draws in [mm]", "CPU s", ""], rows)
            off = (field - moved).abs() / moved
            print(judged("sag off that of particles on the finest grid", float(off[0]), 0.01))
            print(judged("drawing in off theirs", float(off[1]), 0.01))
            print(judged("sag off that of elements", float((field - given).abs()[0] / given[0]), 0.01))


def _millimetres(moved: torch.Tensor) -> list[str]:
    return [f"{1e3 * float(value):.3f}" for value in moved]


def _particles(path: Path, changes: list[str]) -> tuple[torch.Tensor, float]:
    """Sag and draw [m] of particles at rest, by those nearest to the places, and how fast the fastest still is."""
    built = build(load_scene(path, changes))
    with torch.no_grad():
        end = rollout(built.solver, built.state, dt=built.dt, steps=built.steps).final
    begin, moved = built.state.x, end.x - built.state.x
    found = []
    for place, axis in zip(PLACES, (1, 0), strict=True):
        # A plane through what the particles around a place did tells what the place did.
        near = (begin[:, :2] - begin.new_tensor(place)).norm(dim=1).argsort()[:12]
        offset = begin[near, :2] - begin.new_tensor(place)
        plane = torch.cat([torch.ones(len(near), 1, dtype=begin.dtype), offset], dim=1)
        found.append(torch.linalg.lstsq(plane, moved[near, axis : axis + 1]).solution[0, 0])
    return torch.stack(found).double().abs(), float(end.v.norm(dim=1).max())


def _elements(law: str) -> torch.Tensor:
    """Sag and draw of bilinear elements [m]; the block lies on its side, held at the left, gravity to the right."""
    material = Material(law, rho0=1000.0, values={"E": 6e3, "nu": 0.3})
    body = Body(material, Box((0.0, 0.0), (LENGTH, WIDTH)), gravity=(9.81, 0.0))
    first = Elements.clamped(body, (16, 8), (True, False))
    found = reference(first, torch.zeros_like(first.X), 3)
    places = ((LENGTH, 0.5 * WIDTH), (0.5 * LENGTH, 0.0))
    at = [(found.places - found.places.new_tensor(p)).norm(dim=1).argmin() for p in places]
    return torch.stack([found.u[at[0], 0], found.u[at[1], 1]]).abs()


def _field(path: Path, width: int) -> torch.Tensor:
    """Sag and draw of a field in equilibrium [m]."""
    built = build(load_scene(path, ["solver=insr", f"field={{width: {width}}}"]))
    with torch.no_grad():
        end = built.solver.settle(built.solver.initial_state())
        u = built.solver.carried(end, torch.tensor(PLACES, dtype=torch.float64))
    return torch.stack([u[0, 1], u[1, 0]]).abs()
