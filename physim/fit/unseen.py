"""What pictures alone cannot tell of a material, in sentences with the numbers of the fit."""

from __future__ import annotations

from collections.abc import Sequence

from physim.fit.assumptions import Assumption
from physim.fit.quantities import shown
from physim.fit.settings import SI_NAMES
from physim.fit.space import Space
from physim.fit.uncertainty import TIED, Uncertainty
from physim.scene.build_video import only_pictures
from physim.scene.loader import Scene
from physim.scene.materials import MaterialSpec
from physim.scene.units import DENSITY, Dimension

TOGETHER = 0.9
"""Correlation from which two values are said to be determined better together than each."""
LOOSE = 0.1
"""Width of an interval of Poisson's ratio from which it is said to be loose; between 0.3 and 0.4 it changes little."""
POISSON = "nu"


def unseen(
    scene: Scene, space: Space, uncertainty: Uncertainty, level: float, assumptions: Sequence[Assumption] = ()
) -> tuple[str, ...]:
    """What the values rest on besides the pictures; nothing where anything else is measured too.

    Args:
        scene: that was fitted.
        space: the fitted quantities.
        uncertainty: of their values.
        level: probability of the intervals.
        assumptions: numbers whose doubt is in the intervals already.
    """
    if not only_pictures(scene.spec):
        return ()
    found = []
    known = {path for a in assumptions for path in a.numbers}
    for name in dict.fromkeys(body.material for body in scene.spec.bodies.values()):
        material = scene.materials.get(name)
        if material is None:
            continue
        if not scene.spec.loads:
            found += _density(material, space, uncertainty, level, known)
        found += _fixed(material, space, known)
        found += _poisson(material, space, uncertainty, level)
    return (*found, *_tied(space, uncertainty))


def _density(
    material: MaterialSpec, space: Space, uncertainty: Uncertainty, level: float, known: set[str]
) -> list[str]:
    """Stiffness per density is what moves."""
    path = f"materials.{material.name}.density"
    scaled = [k for k, p in material.params.items() if p.dimension.exponents[1] == 1]
    rows = [(k, space.index(n)) for k in scaled if (n := f"materials.{material.name}.{k}") in space.names]
    if not rows or material.density is None:
        return []
    if path in space.names:
        words = ", ".join(k for k, _ in rows)
        return [
            f"Without a known force no picture tells the density of {material.name}, which is fitted together with "
            f"{words}: only what is per density is determined. Fix one of them, or give it a prior."
        ]
    told = []
    for key, row in rows:
        e, unit = uncertainty.estimates[row], _per_density(material.params[key].dimension)
        low, value, high = (f"{v / material.density:.4g}" for v in (e.low, e.value, e.high))
        told.append(f"{key} per density is {value} {unit} ({100 * level:g} %: {low} to {high})")
    own = shown(material.density, DENSITY.unit)
    source = "assumed" if path in known else "taken from the scene"
    words, grow = " and ".join(k for k, _ in rows), "grows" if len(rows) == 1 else "grow"
    return [
        f"No picture tells the density of {material.name}; {own} is {source}. What was found: {'; '.join(told)}. "
        f"{words} {grow} in proportion to the density."
    ]


def _fixed(material: MaterialSpec, space: Space, known: set[str]) -> list[str]:
    """Numbers of a material that were neither fitted nor given a doubt."""
    others = {*space.names, *known}
    # A value of zero says that the law has none of it.
    fixed = {
        k: p
        for k, p in material.params.items()
        if f"materials.{material.name}.{k}" not in others and material.values[k] != 0.0
    }
    if not fixed:
        return []
    values = {k: shown(material.values[k], SI_NAMES.get(p.dimension.name, p.dimension.unit)) for k, p in fixed.items()}
    words = ", ".join(f"{_called(k)} = {v}" for k, v in values.items())
    first = POISSON if POISSON in fixed else next(iter(fixed))
    sd = 0.1 * abs(material.values[first]) or 1.0
    dimension = fixed[first].dimension
    return [
        f"Of {material.name}, {words} {'is' if len(fixed) == 1 else 'are'} taken from the scene, not fitted; the "
        "intervals hold nothing of what they may be off, unless told, as in `fit: {assumed: "
        f"{{materials.{material.name}.{first}: {f'{sd / dimension.scale:.2g} {dimension.unit}'.strip()}}}}}`."
    ]


def _poisson(material: MaterialSpec, space: Space, uncertainty: Uncertainty, level: float) -> list[str]:
    name = f"materials.{material.name}.{POISSON}"
    if name not in space.names:
        return []
    e = uncertainty.estimates[space.index(name)]
    if e.high - e.low < LOOSE:
        return []
    return [
        f"Poisson's ratio of {material.name} is loose: {e.low:.2g} to {e.high:.2g} ({100 * level:g} %). Outlines and "
        "tracks of a body that is free to bulge hardly change with it."
    ]


def _tied(space: Space, uncertainty: Uncertainty) -> list[str]:
    """Pairs that are correlated, but for those of which a warning tells."""
    found, names = [], space.names
    for i in range(len(names)):
        for j in range(i):
            size = float(uncertainty.correlation[i, j])
            warned = abs(size) > TIED and all(uncertainty.estimates[k].determined for k in (i, j))
            if abs(size) > TOGETHER and not warned:
                way = "the same way" if size > 0 else "opposite ways"
                found.append(
                    f"{names[j]} and {names[i]} are determined better together than each: errors of them go "
                    f"{way} (correlation {size:.2f})."
                )
    return found


def _called(key: str) -> str:
    return "Poisson's ratio nu" if key == POISSON else key


def _per_density(dimension: Dimension) -> str:
    """SI unit of a quantity of that dimension over a density."""
    metres, _, seconds, _ = (a - b for a, b in zip(dimension.exponents, DENSITY.exponents, strict=True))
    return f"m^{metres:g}/s{'' if seconds == -1 else f'^{-seconds:g}'}"
