"""A first, commented scene file."""

from __future__ import annotations

from pathlib import Path

from physim.errors import InputError
from physim.scene.rundir import write_atomic

STARTER = """\
# A scene is data: SI units, or text with a unit such as 50 kPa. Misspelt keys and wrong units are told with their line.
# Check it:  physim check scene {name}        Run it:  physim run {name}
# Change it: physim run {name} --set materials.jelly.E=20kPa
# For completion in an editor: physim scenes --schema > physim.schema.json
title: A soft cube falls on the floor

solver: mpm                     # mpm: particles and a grid; solid: a body that keeps its shape; none: tables only
dim: 3                          # 2 is plane strain

grid:                           # where material may be
  origin: [0, 0, 0]             # lower corner [m]
  upper: [40 cm, 40 cm, 40 cm]  # upper corner, a whole number of cells away
  dx: 2 cm                      # cell size: at least four cells across a body
gravity: [0, -9.81, 0]          # m/s^2
time:
  duration: 0.6 s
  dt: auto                      # the largest stable substep
  frame: 10 ms                  # how often a picture is kept

materials:
  jelly:
    law: neo_hookean            # `physim check law --all` lists the laws
    E: 50 kPa                   # Young's modulus
    nu: 0.3                     # Poisson's ratio
    density: 1000 kg/m^3
    viscous: {{law: kelvin_voigt, viscosity: 5 Pa s}}   # damping; leave it out for none
  # or a material that ships, or the material.yaml of a fit beside this file:
  # jelly: {{include: jelly}}

bodies:
  cube:
    shape:
      box: {{center: [0.2, 0.25, 0.2], size: [0.12, 0.12, 0.12]}}   # or sphere, cylinder, mesh: {{file: part.stl}}
    material: jelly
    velocity: [0, 0, 0]         # m/s
    per_cell: 8                 # particles in each cell

walls:
  all: slip                     # slip, stick, coulomb, mirror_slip, mirror_no_slip, open
  y_min: {{type: coulomb, friction: 0.5}}

observe:                        # what is measured while it runs
  height:
    kind: position              # position, displacement, front, radius, force, tracks, particles
    body: cube
    direction: [0, 1, 0]
"""


SCENE_FILES = (".yaml", ".yml")


def write_starter(path: Path, *, force: bool = False) -> None:
    """Write the starter scene.

    Args:
        path: file to write, ending in .yaml.
        force: replace a file that exists.

    Raises:
        InputError: the file exists, or the name does not end in .yaml.
    """
    check_free(path, force=force)
    write_atomic(path, STARTER.format(name=path))


def check_free(path: Path, *, force: bool) -> None:
    """Raise `InputError` unless a scene file may be written there."""
    if path.suffix not in SCENE_FILES:
        raise InputError(f"{path}: a scene file ends in .yaml.")
    if path.exists() and not force:
        raise InputError(f"{path} exists; choose another name, or replace it with --force.")
