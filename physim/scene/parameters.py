"""Numbers of a scene that a fit may free, by dotted path: what they measure, their value and bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from physim.errors import InputError, nearest
from physim.scene.materials import MaterialSpec
from physim.scene.networks import NetworkSpec
from physim.scene.shape_numbers import bounds_of, shape_numbers
from physim.scene.spec import ScenePart
from physim.scene.units import (
    ACCELERATION,
    DENSITY,
    MASS,
    NUMBER,
    SPIN,
    TIME,
    VELOCITY,
    Dimension,
)

NETWORK_PATHS = ("network", "viscous.network", "inelastic.network")
"""Ends of the paths of a material's weights: of its elastic, viscous and inelastic law."""
AXES = {"x": 0, "y": 1, "z": 2, "0": 0, "1": 1, "2": 2}


@dataclass(frozen=True)
class FreeNumber:
    """One number of a scene.

    Attributes:
        name: dotted path, such as `materials.beam.E`.
        dimension: what it measures.
        value: its value in the scene [SI].
        lower: physical bound [SI].
        upper: physical bound [SI].
        transform: `log`, `logit` or `linear`: how a fit searches it.
    """

    name: str
    dimension: Dimension
    value: float
    lower: float = -math.inf
    upper: float = math.inf
    transform: str = "linear"


def free_number(spec: ScenePart, materials: dict[str, MaterialSpec], name: str) -> FreeNumber:
    """The number at a dotted path.

    Raises:
        InputError: no such number, or one that cannot be fitted.
    """
    parts = name.replace("[", ".").replace("]", "").split(".")
    section = parts[0]
    if section == "materials" and len(parts) >= 3:
        return _material_number(materials, parts, name)
    if section == "gravity" and len(parts) == 2 and parts[1] in AXES:
        return FreeNumber(name, ACCELERATION, spec.gravity[AXES[parts[1]]])
    if section == "bodies" and len(parts) == 4 and parts[1] in spec.bodies and parts[3] in AXES:
        kinds = {"velocity": VELOCITY, "spin": SPIN}
        if parts[2] in kinds:
            given = getattr(spec.bodies[parts[1]], parts[2]) or (0.0, 0.0, 0.0)
            return FreeNumber(name, kinds[parts[2]], given[AXES[parts[3]]])
    if section == "observe" and len(parts) == 3 and parts[1] in spec.observe and parts[2] == "delay":
        return FreeNumber(name, TIME, spec.observe[parts[1]].delay)
    if section == "videos" and len(parts) == 3 and parts[1] in spec.videos and parts[2] == "delay":
        return FreeNumber(name, TIME, spec.videos[parts[1]].delay)
    if section == "loads" and len(parts) == 3 and parts[1] in spec.loads and parts[2] == "mass":
        return FreeNumber(name, MASS, spec.loads[parts[1]].mass, 0.0, math.inf, "log")
    if section == "colliders" and len(parts) == 3 and parts[1] in spec.colliders and parts[2] == "friction":
        return FreeNumber(name, NUMBER, spec.colliders[parts[1]].friction, 0.0, math.inf, "log")
    for path, dimension, value, positive in shape_numbers(spec):
        if path == ".".join(parts):
            return FreeNumber(name, dimension, value, *bounds_of(positive))
    raise InputError(f"'{name}' is not a number that can be fitted.{nearest(name, fittable(spec, materials))}")


def free_network(materials: dict[str, MaterialSpec], name: str) -> NetworkSpec | None:
    """The weights at a dotted path such as `materials.rubber.network`; None for the path of a number.

    Raises:
        InputError: a law without weights.
    """
    section, _, rest = name.partition(".")
    material, _, part = rest.partition(".")
    if section != "materials" or part not in NETWORK_PATHS or material not in materials:
        return None
    found = materials[material].network_of(part)
    if found is None:
        some = [f"materials.{m}.{p}" for m, spec in materials.items() for p in NETWORK_PATHS if spec.network_of(p)]
        raise InputError(f"'{name}': this law has no network.{nearest(name, some) if some else ''}")
    return found


def fittable(spec: ScenePart, materials: dict[str, MaterialSpec]) -> list[str]:
    """Paths of every number and every network that can be fitted."""
    names = [f"materials.{m}.{p}" for m, material in materials.items() for p in material.params]
    names += [
        f"materials.{m}.{p}" for m, material in materials.items() for p in NETWORK_PATHS if material.network_of(p)
    ]
    names += [f"materials.{m}.density" for m, material in materials.items() if material.density is not None]
    axes = "xyz"[: spec.dim]
    names += [f"gravity.{a}" for a in axes]
    names += [f"bodies.{b}.{k}.{a}" for b in spec.bodies for k in ("velocity", "spin") for a in axes]
    names += [f"observe.{o}.delay" for o in spec.observe]
    names += [f"videos.{v}.delay" for v in spec.videos]
    names += [f"loads.{p}.mass" for p in spec.loads]
    names += [path for path, *_ in shape_numbers(spec)]
    return names


def _material_number(materials: dict[str, MaterialSpec], parts: list[str], name: str) -> FreeNumber:
    if parts[1] not in materials:
        raise InputError(f"'{name}': no material '{parts[1]}'.{nearest(parts[1], materials)}")
    material, key = materials[parts[1]], ".".join(parts[2:])
    if key == "density" and material.density is not None:
        return FreeNumber(name, DENSITY, material.density, 0.0, math.inf, "log")
    if key not in material.params:
        known = [*material.params, *(p for p in NETWORK_PATHS if material.network_of(p))]
        raise InputError(f"'{name}': no parameter '{key}' in '{parts[1]}'.{nearest(key, known)}")
    param = material.params[key]
    return FreeNumber(name, param.dimension, material.values[key], param.lower, param.upper, param.transform)
