"""Values that are allowed and probably not meant: a missing prefix, millimetres given as metres.

Only bare numbers are suspected. A value written with its unit is taken at its word.
"""

from __future__ import annotations

import math

from physim.scene.document import Key
from physim.scene.materials import MaterialSpec
from physim.scene.problems import Findings
from physim.scene.spec import ScenePart
from physim.scene.units import ANGLE, DENSITY, PRESSURE, has_unit

SILENCE = "Write the unit to confirm the value."

# Solids and liquids lie between aerogel and osmium [kg/m^3].
DENSITIES = (10.0, 25_000.0)
# Softer than any gel that keeps its shape [Pa].
SOFTEST = 1.0
# Stiffer than diamond [Pa].
STIFFEST = 2e12
# A cell this large [m] suggests that millimetres or centimetres were meant.
LARGE_CELL = 1.0
# Ten times the Sun's surface gravity would be 2740 m/s^2; 9810 is 9.81 m/s^2 in mm.
STRONG_GRAVITY = 300.0
# Faster than rifle bullets [m/s].
FAST = 1000.0


def note_suspicions(spec: ScenePart, materials: dict[str, MaterialSpec], findings: Findings) -> None:
    """Add a warning for every suspicious bare number."""
    for name, material in materials.items():
        _material(("materials", name), material, findings)
    grid = spec.grid
    if grid is not None and grid.dx >= LARGE_CELL and _bare(findings, ("grid", "dx")):
        findings.warn(
            ("grid", "dx"), f"a cell of {grid.dx:g} m; bare numbers are metres. Did you mean {grid.dx:g} mm? {SILENCE}"
        )
    strength = math.hypot(*spec.gravity)
    if strength > STRONG_GRAVITY:
        findings.warn(("gravity",), f"gravity of {strength:g} m/s^2; the Earth's is 9.81 m/s^2, so is this in mm?")
    for name, body in spec.bodies.items():
        speed = math.hypot(*(body.velocity or (0.0,)))
        if speed > FAST:
            findings.warn(("bodies", name, "velocity"), f"a speed of {speed:g} m/s; is this in mm/s?")
    if spec.time is not None and spec.time.duration > 1000.0 and _bare(findings, ("time", "duration")):
        findings.warn(("time", "duration"), f"{spec.time.duration:g} s; bare numbers are seconds. {SILENCE}")


def _material(path: Key, material: MaterialSpec, findings: Findings) -> None:
    density = material.density
    if density is not None and not DENSITIES[0] <= density <= DENSITIES[1] and _bare(findings, (*path, "density")):
        guess = f" Did you mean {density:g} g/cm^3?" if 0.2 <= density < 25 else ""
        findings.warn(
            (*path, "density"), f"{density:g} {DENSITY.unit}; water has 1000, bare numbers are kg/m^3.{guess} {SILENCE}"
        )
    for key, param in material.params.items():
        at = (*path, *key.split("."))
        if not _bare(findings, at):
            continue
        value = material.values[key]
        if param.dimension is PRESSURE and 0 < abs(value) < SOFTEST:
            guess = "Did you mean kPa, MPa or GPa?"
            findings.warn(at, f"{value:g} Pa is softer than any solid; bare numbers are Pa. {guess} {SILENCE}")
        elif param.dimension is PRESSURE and abs(value) > STIFFEST:
            findings.warn(at, f"{value:g} Pa is stiffer than diamond; bare numbers are Pa. {SILENCE}")
        elif param.dimension is ANGLE and 0 < abs(math.degrees(value)) < 1.6:
            findings.warn(
                at, f"{math.degrees(value):g} degrees; bare angles are in degrees. Did you mean radians? {SILENCE}"
            )


def _bare(findings: Findings, path: Key) -> bool:
    """Whether a value is in the file, and without a unit."""
    value = findings.document.at(path)
    return value is not None and not has_unit(value)
