"""Numbers of shapes and of the placement that a fit may free: where a body is, how it is turned, how large it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from physim.scene.spec import ScenePart
from physim.scene.units import ANGLE, LENGTH, Dimension

VECTORS: dict[str, dict[str, Dimension]] = {
    "mesh": {"translation": LENGTH, "rotation": ANGLE},
    "box": {"center": LENGTH, "size": LENGTH, "lower": LENGTH, "upper": LENGTH, "rotation": ANGLE},
    "sphere": {"center": LENGTH},
    "cylinder": {"center": LENGTH},
    "polygon": {},
}
"""Vectors of each kind of shape."""
SIZES: dict[str, dict[str, Dimension]] = {
    "mesh": {"scale": LENGTH},
    "box": {},
    "sphere": {"radius": LENGTH},
    "cylinder": {"radius": LENGTH, "height": LENGTH},
    "polygon": {"depth": LENGTH},
}
"""Positive numbers of each kind of shape."""
IMPLIED = ("translation", "rotation")
"""Vectors that are zero where a scene leaves them out."""
AXES = "xyz"


def shape_numbers(spec: ScenePart) -> Iterator[tuple[str, Dimension, float, bool]]:
    """Path, dimension, value and whether it is positive, of every number of the bodies' shapes and the placement."""
    for body, part in spec.bodies.items():
        kind, given = part.shape.kind, part.shape.shape_part
        start = f"bodies.{body}.shape.{kind}"
        for key, dimension in VECTORS.get(kind, {}).items():
            yield from _components(f"{start}.{key}", dimension, getattr(given, key), key, spec.dim)
        for key, dimension in SIZES.get(kind, {}).items():
            yield f"{start}.{key}", dimension, float(getattr(given, key)), True
    for key, dimension in (("translation", LENGTH), ("rotation", ANGLE)):
        value = getattr(spec.placement, key) if spec.placement is not None else None
        yield from _components(f"placement.{key}", dimension, value, key, spec.dim)


def settings(spec: ScenePart, values: Mapping[str, float], counts: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Changes that give numbers of a scene other values; bodies whose shape changes keep their particles' lattice.

    Args:
        spec: the scene.
        values: by path [SI].
        counts: points of the lattice of each body along its axes.
    """
    found, vectors, bodies = [], set[str](), set[str]()
    for name, value in values.items():
        path = name.replace("[", ".").replace("]", "")
        vector, _, axis = path.rpartition(".")
        last = vector.rpartition(".")[2]
        section, *rest = path.split(".")
        turned = last == "rotation"
        if axis in AXES and last in IMPLIED and vector not in vectors and _missing(spec, vector):
            found.append(f"{vector}=[0, 0, 0]")
        vectors.add(vector)
        if section == "bodies" and rest[1] == "shape" and rest[0] not in bodies:
            bodies.add(rest[0])
            part = spec.bodies[rest[0]]
            found += [f"bodies.{rest[0]}.{k}=null" for k in ("spacing", "per_cell") if getattr(part, k) is not None]
            found.append(f"bodies.{rest[0]}.counts=[{', '.join(map(str, counts[rest[0]]))}]")
        # A bare angle is read in degrees.
        found.append(f"{name}={value!r} rad" if turned else f"{name}={value!r}")
    return found


def _components(
    path: str, dimension: Dimension, value: Any, key: str, dim: int
) -> Iterator[tuple[str, Dimension, float, bool]]:
    if value is None and key not in IMPLIED:
        return
    for i, axis in enumerate(AXES):
        # In the plane there is one turn, about z.
        if dim == 2 and (axis == "z") != (key == "rotation"):
            continue
        number = 0.0 if value is None or i >= len(value) else float(value[i])
        yield f"{path}.{axis}", dimension, number, key == "size"


def _missing(spec: ScenePart, vector: str) -> bool:
    """Whether the scene leaves a vector out."""
    node: Any = spec
    for key in vector.split("."):
        node = node.get(key) if isinstance(node, Mapping) else getattr(node, key, None)
        if node is None:
            return True
    return False


def bounds_of(positive: bool) -> tuple[float, float, str]:
    """Lower and upper bound, and how a fit searches."""
    return (0.0, math.inf, "log") if positive else (-math.inf, math.inf, "linear")
