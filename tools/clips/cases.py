"""The six clips."""

from __future__ import annotations

import math

from tools.clips.case import Case, Eye, Setting, Skin, Sought

JELLY = Case(
    name="jelly",
    title="A cube of jelly falls on a slippery floor and bounces",
    scene="""
grid: {origin: [0, 0, 0], upper: [0.4, 0.4, 0.4], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.4 s, frame: 10 ms}
materials:
  gel: {law: neo_hookean, E: 30 kPa, nu: 0.4, density: 1000 kg/m^3, viscous: {law: kelvin_voigt, viscosity: 10 Pa s}}
bodies:
  cube:
    shape: {box: {center: [0.2, 0.27, 0.2], size: [0.1, 0.1, 0.1]}}
    material: gel
    per_cell: $per_cell
    velocity: [0.2, -0.3, 0]
walls: {y_min: {type: slip, position: 0.05}}
""",
    sought={
        "materials.gel.E": Sought.modulus(30e3, 0.03),
        "materials.gel.viscous.viscosity": Sought.modulus(10.0, 0.1),
        "bodies.cube.velocity.x": Sought(0.2, (0.0, 0.5), (-2.0, 2.0)),
        "bodies.cube.velocity.y": Sought(-0.3, (0.0, -0.6), (-3.0, 2.0)),
    },
    eyes={
        "front": Eye((0.23, 0.18, 1.2), (0.23, 0.17, 0.2), 20.0),
        "side": Eye((1.15, 0.33, 0.5), (0.22, 0.16, 0.2), 20.0),
    },
    skin=Skin.LATTICE,
    fine=Setting(0.05 / 7),
    coarse=Setting(0.1 / 13),
)

PRESS = Case(
    name="plasticine",
    title="A known weight is thrown down on a block of plasticine",
    scene="""
grid: {origin: [0, 0, 0], upper: [0.24, 0.24, 0.24], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.12 s, frame: 3 ms}
materials:
  plasticine:
    law: hencky
    E: 200 kPa
    nu: 0.3
    density: 1200 kg/m^3
    inelastic: {law: von_mises, yield_stress: 6 kPa}
  weight: {law: neo_hookean, E: 500 kPa, nu: 0.2, density: 3000 kg/m^3}
bodies:
  block:
    shape: {box: {center: [0.12, 0.07, 0.12], size: [0.08, 0.08, 0.08]}}
    material: plasticine
    per_cell: $per_cell
  load:
    shape: {box: {center: [0.12, 0.14, 0.12], size: [0.1, 0.06, 0.1]}}
    material: weight
    per_cell: $per_cell
    velocity: [0, -1.5, 0]
walls: {y_min: {type: mirror_no_slip, position: 0.03}}
""",
    sought={
        "materials.plasticine.inelastic.yield_stress": Sought.modulus(6e3, 0.05),
    },
    eyes={
        "front": Eye((0.12, 0.12, 0.92), (0.12, 0.1, 0.12), 17.0),
        "side": Eye((0.85, 0.2, 0.4), (0.12, 0.1, 0.12), 17.0),
    },
    skin=Skin.LATTICE,
    fine=Setting(0.02 / 3),
    coarse=Setting(0.0075),
    colors=((200, 120, 60), (90, 110, 190)),
)

SAND = Case(
    name="sand",
    title="A column of sand between two panes collapses",
    scene="""
grid: {origin: [0, 0, 0], upper: [0.36, 0.14, 0.04], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.4 s, frame: 10 ms}
materials:
  sand:
    law: hencky
    E: 400 kPa
    nu: 0.2
    density: 1600 kg/m^3
    inelastic: {law: drucker_prager, friction_angle: 32 deg}
bodies:
  column:
    shape: {box: {lower: [0, 0, 0], upper: [0.1, 0.1, 0.04]}}
    material: sand
    per_cell: $per_cell
walls: {x_min: mirror_slip, y_min: mirror_no_slip, z_min: mirror_slip, z_max: mirror_slip}
""",
    sought={
        "materials.sand.inelastic.friction_angle": Sought(
            32.0, (6.4, 60.0), (3.0, 65.0), 0.05, unit="deg", si=math.pi / 180
        )
    },
    eyes={
        "front": Eye((0.12, 0.06, 1.0), (0.12, 0.05, 0.02), 18.0),
        "side": Eye((0.9, 0.25, 0.5), (0.12, 0.04, 0.02), 18.0),
    },
    skin=Skin.FIELD,
    fine=Setting(0.005),
    coarse=Setting(0.02 / 3),
    colors=((200, 170, 110),),
)

DROP = Case(
    name="drop",
    title="A drop of syrup falls on a sticky floor and spreads",
    scene="""
grid: {origin: [-0.12, 0, -0.12], upper: [0.12, 0.12, 0.12], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.25 s, frame: 10 ms}
materials:
  syrup:
    law: fluid_tait
    bulk_modulus: 100 kPa
    density: 1000 kg/m^3
    viscous: {law: newtonian, viscosity: 8 Pa s}
    inelastic: fluid
bodies:
  drop:
    shape: {sphere: {center: [0, 0.06, 0], radius: 0.04}}
    material: syrup
    per_cell: $per_cell
walls: {y_min: mirror_no_slip}
""",
    sought={"materials.syrup.viscous.viscosity": Sought.modulus(8.0, 0.1)},
    eyes={
        "front": Eye((0, 0.1, 0.9), (0, 0.045, 0), 16.0),
        "side": Eye((0.78, 0.35, 0.3), (0, 0.03, 0), 16.0),
    },
    skin=Skin.FIELD,
    fine=Setting(0.004),
    coarse=Setting(0.04 / 9),
    colors=((200, 130, 40),),
)

BODIES = Case(
    name="bodies",
    title="Two cubes of jelly, one on the other, fall on a slippery floor",
    scene="""
grid: {origin: [0, 0, 0], upper: [0.35, 0.4, 0.35], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.3 s, frame: 10 ms}
materials:
  lower: {law: neo_hookean, E: 40 kPa, nu: 0.4, density: 1000 kg/m^3, viscous: {law: kelvin_voigt, viscosity: 8 Pa s}}
  upper: {law: neo_hookean, E: 15 kPa, nu: 0.4, density: 1000 kg/m^3, viscous: {law: kelvin_voigt, viscosity: 8 Pa s}}
bodies:
  lower:
    shape: {box: {center: [0.16, 0.13, 0.16], size: [0.1, 0.1, 0.1]}}
    material: lower
    per_cell: $per_cell
    velocity: [0, -1.2, 0]
  upper:
    shape: {box: {center: [0.17, 0.22, 0.16], size: [0.08, 0.08, 0.08]}}
    material: upper
    per_cell: $per_cell
    velocity: [0, -1.2, 0]
walls: {y_min: {type: slip, position: 0.05}}
""",
    sought={
        "materials.lower.E": Sought.modulus(40e3, 0.03),
        "materials.upper.E": Sought.modulus(15e3, 0.03),
    },
    eyes={
        "front": Eye((0.16, 0.17, 1.1), (0.17, 0.15, 0.16), 18.0),
        "side": Eye((1.0, 0.32, 0.5), (0.17, 0.14, 0.16), 18.0),
    },
    skin=Skin.LATTICE,
    fine=Setting(0.05 / 7),
    coarse=Setting(0.025 / 3),
    colors=((205, 80, 60), (70, 110, 190)),
)

BEAM = Case(
    name="beam",
    title="A clamped beam of rubber is let go",
    scene="""
solver: solid
grid: {origin: [0, 0, 0], upper: [0.2, 0.03, 0.03], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.6 s, frame: 15 ms}
materials:
  rubber:
    law: neo_hookean
    E: 250 kPa
    nu: 0.4
    density: 1100 kg/m^3
    viscous: {law: kelvin_voigt, viscosity: 300 Pa s}
bodies:
  beam:
    shape: {box: {lower: [0, 0, 0], upper: [0.2, 0.03, 0.03]}}
    material: rubber
    per_cell: $per_cell
walls: {x_min: {type: mirror_no_slip, position: 0}}
""",
    sought={
        "materials.rubber.E": Sought.modulus(250e3, 0.03),
    },
    eyes={
        "front": Eye((0.1, 0.0, 0.9), (0.1, -0.02, 0.015), 18.0),
        "side": Eye((0.75, 0.25, 0.55), (0.1, -0.03, 0.015), 18.0),
    },
    skin=Skin.LATTICE,
    fine=Setting(0.0075),
    coarse=Setting(0.01),
    colors=((70, 150, 90),),
)

SHIPPED = Case(
    name="jelly_video",
    title="A jelly on a plate wobbles",
    scene="""
solver: solid
grid: {origin: [-0.04, 0, -0.04], upper: [0.04, 0.096, 0.04], dx: $dx}
gravity: [0, -9.81, 0]
time: {duration: 0.6 s, frame: 20 ms}
materials:
  jelly: {law: neo_hookean, E: 9 kPa, nu: 0.4, density: 1050 kg/m^3, viscous: {law: kelvin_voigt, viscosity: 25 Pa s}}
bodies:
  jelly:
    shape: {box: {lower: [-0.04, 0, -0.04], upper: [0.04, 0.096, 0.04]}}
    material: jelly
    per_cell: $per_cell
    velocity: [0.5, 0, 0]
walls: {y_min: {type: mirror_no_slip, position: 0}}
""",
    sought={
        "materials.jelly.E": Sought.modulus(9e3, 0.03),
        "materials.jelly.viscous.viscosity": Sought.modulus(25.0, 0.1),
        "bodies.jelly.velocity.x": Sought(0.5, (0.3, 0.8), (-2.0, 2.0)),
    },
    eyes={"jelly_video": Eye((0.0, 0.06, 2.5), (0.0, 0.05, 0.0), 5.1)},
    skin=Skin.LATTICE,
    fine=Setting(0.008),
    coarse=Setting(0.016),
    colors=((190, 60, 110),),
)
"""The clip that comes with the scenes."""

CASES = {case.name: case for case in (JELLY, PRESS, SAND, DROP, BODIES, BEAM)}
