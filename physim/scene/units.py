"""Physical quantities in files: a plain number in the base unit, or text such as `50 kPa`, to SI.

A bare number is in SI units, with one exception: an angle is in degrees, and becomes radians.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from physim.errors import InputError, nearest

# Exponents of metre, kilogram, second, radian.
Exponents = tuple[float, float, float, float]

NONE: Exponents = (0.0, 0.0, 0.0, 0.0)


class UnitError(InputError):
    """A quantity that cannot be read, or has the wrong dimension."""


@dataclass(frozen=True)
class Dimension:
    """What a quantity measures.

    Attributes:
        name: with its article, for messages: "a pressure".
        unit: the SI unit as written in messages and in files that physim writes.
        exponents: powers of metre, kilogram, second, radian.
        scale: SI value of a bare number 1; pi/180 for angles, else 1.
    """

    name: str
    unit: str
    exponents: Exponents
    scale: float = 1.0

    @property
    def label(self) -> str:
        """Name with unit: `a pressure (Pa)`."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


DEGREE = math.pi / 180.0

NUMBER = Dimension("a plain number", "", NONE)
LENGTH = Dimension("a length", "m", (1, 0, 0, 0))
AREA = Dimension("an area", "m^2", (2, 0, 0, 0))
VOLUME = Dimension("a volume", "m^3", (3, 0, 0, 0))
TIME = Dimension("a time", "s", (0, 0, 1, 0))
RATE = Dimension("a rate", "1/s", (0, 0, -1, 0))
VELOCITY = Dimension("a velocity", "m/s", (1, 0, -1, 0))
ACCELERATION = Dimension("an acceleration", "m/s^2", (1, 0, -2, 0))
SPIN = Dimension("an angular velocity", "rad/s", (0, 0, -1, 1))
ANGLE = Dimension("an angle", "deg", (0, 0, 0, 1), DEGREE)
MASS = Dimension("a mass", "kg", (0, 1, 0, 0))
DENSITY = Dimension("a density", "kg/m^3", (-3, 1, 0, 0))
PRESSURE = Dimension("a pressure", "Pa", (-1, 1, -2, 0))
VISCOSITY = Dimension("a viscosity", "Pa s", (-1, 1, -1, 0))
FORCE = Dimension("a force", "N", (1, 1, -2, 0))
ENERGY = Dimension("an energy", "J", (2, 1, -2, 0))
POWER = Dimension("a power", "W", (2, 1, -3, 0))
MOMENTUM = Dimension("a momentum", "kg m/s", (1, 1, -1, 0))
TENSION = Dimension("a surface tension", "N/m", (0, 1, -2, 0))

DIMENSIONS = (
    NUMBER, LENGTH, AREA, VOLUME, TIME, RATE, VELOCITY, ACCELERATION, SPIN, ANGLE, MASS, DENSITY, PRESSURE,
    VISCOSITY, FORCE, ENERGY, POWER, MOMENTUM, TENSION,
)  # fmt: skip

_PREFIXES = {"G": 1e9, "M": 1e6, "k": 1e3, "h": 1e2, "d": 1e-1, "c": 1e-2, "m": 1e-3, "u": 1e-6, "µ": 1e-6}
_PREFIXES |= {"μ": 1e-6, "n": 1e-9}

# Units that take a prefix: (SI value, exponents).
_BASES: dict[str, tuple[float, Exponents]] = {
    "m": (1.0, LENGTH.exponents),
    "g": (1e-3, MASS.exponents),
    "s": (1.0, TIME.exponents),
    "Pa": (1.0, PRESSURE.exponents),
    "N": (1.0, FORCE.exponents),
    "J": (1.0, ENERGY.exponents),
    "W": (1.0, POWER.exponents),
    "Hz": (1.0, RATE.exponents),
    "rad": (1.0, ANGLE.exponents),
    "bar": (1e5, PRESSURE.exponents),
    "P": (0.1, VISCOSITY.exponents),
    "L": (1e-3, VOLUME.exponents),
}

# Units that stand alone.
_PLAIN: dict[str, tuple[float, Exponents]] = {
    "": (1.0, NONE),
    "-": (1.0, NONE),
    "1": (1.0, NONE),
    "%": (0.01, NONE),
    "deg": (DEGREE, ANGLE.exponents),
    "°": (DEGREE, ANGLE.exponents),
    "min": (60.0, TIME.exponents),
    "h": (3600.0, TIME.exponents),
    "rpm": (2 * math.pi / 60.0, SPIN.exponents),
    "t": (1e3, MASS.exponents),
    "in": (0.0254, LENGTH.exponents),
    "ft": (0.3048, LENGTH.exponents),
    "atm": (101325.0, PRESSURE.exponents),
    "psi": (6894.757293168, PRESSURE.exponents),
}

UNITS: dict[str, tuple[float, Exponents]] = {
    **{p + u: (f * scale, e) for u, (scale, e) in _BASES.items() for p, f in _PREFIXES.items()},
    **_BASES,
    **_PLAIN,
}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL)
_FACTOR = re.compile(r"([^\s*/·^\d+-]+|1|-)(?:(?:\^|\*\*)?([+-]?\d+(?:\.\d+)?))?")
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def unit_of(text: str) -> tuple[float, Exponents]:
    """SI value and exponents of a unit such as `kg/m^3`, `Pa s`, `N/mm2` or `m s^-1`.

    Factors are separated by a space, `*` or `·`; each `/` divides by the one factor after it.

    Raises:
        UnitError: a factor is unknown or the text is malformed.
    """
    text = text.translate(_SUPERSCRIPT).strip()
    text = f"1{text}" if text.startswith("/") else text  # 0.01/s is 0.01 1/s
    if text in UNITS:
        return UNITS[text]
    scale, total = 1.0, list(NONE)
    at, sign, fresh = 0, 1, True
    while at < len(text):
        match = _FACTOR.match(text, at)
        if not match:
            raise UnitError(f"cannot read the unit '{text}'")
        name, power = match.group(1), float(match.group(2) or 1) * sign
        if name not in UNITS:
            raise UnitError(f"unknown unit '{name}'.{_suggest(name)}")
        factor, exponents = UNITS[name]
        scale *= factor**power
        total = [t + power * e for t, e in zip(total, exponents, strict=True)]
        at, sign, fresh = match.end(), 1, False
        separator = re.compile(r"\s*([*·/])\s*|\s+").match(text, at)
        if separator:
            operator = separator.group(1)
            at, sign, fresh = separator.end(), -1 if operator == "/" else 1, bool(operator)
        elif at < len(text):
            raise UnitError(f"cannot read the unit '{text}'")
    if fresh:
        raise UnitError(f"cannot read the unit '{text}'")
    return scale, (total[0], total[1], total[2], total[3])


def parse(value: object, expected: Dimension) -> float:
    """`value` in SI units (radians for angles).

    Args:
        value: a number, or text with a number and a unit.
        expected: what it must measure.

    Raises:
        UnitError: not a finite number, unknown unit, or another dimension.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UnitError(f"expected {expected.label}, got {shown(value)}{_example(expected)}")
    if not isinstance(value, str):
        return _finite(float(value), value, expected) * expected.scale
    match = _QUANTITY.fullmatch(value)
    if not match:
        raise UnitError(f"expected {expected.label}, got {shown(value)}{_example(expected)}")
    number, unit = float(match.group(1)), match.group(2)
    _finite(number, value, expected)
    if not unit:
        return number * expected.scale
    try:
        scale, exponents = unit_of(unit)
    except UnitError as error:
        raise UnitError(f"expected {expected.label}, got {shown(value)}: {error}") from None
    if not _same(exponents, expected.exponents):
        given = name_of(exponents)
        which = f", which is {given}" if given else ""
        raise UnitError(f"expected {expected.label}, got {shown(value)}{which}")
    # Fifteen digits: 1 g/cm^3 is 1000 kg/m^3, not 999.9999999999999.
    return float(f"{number * scale:.15g}")


def column_unit(text: str) -> tuple[float, Dimension]:
    """SI value of 1 in a column of this unit, and what it measures; `10 ms` counts in steps of ten milliseconds.

    Raises:
        UnitError: the unit is unknown.
    """
    match = _QUANTITY.fullmatch(text)
    factor, unit = (float(match.group(1)), match.group(2)) if match and match.group(2) else (1.0, text)
    return factor * unit_of(unit)[0], dimension_of(unit)


def has_unit(value: object) -> bool:
    """Whether a quantity was written with its unit, so that its magnitude is deliberate."""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return bool(match and match.group(2))


def dimension_of(unit: str) -> Dimension:
    """The dimension that a law's table names by its unit.

    Raises:
        UnitError: the unit is unknown.
    """
    scale, exponents = unit_of(unit)
    if exponents == ANGLE.exponents:
        return ANGLE
    for known in DIMENSIONS:
        if known.exponents == exponents:
            return known
    return Dimension("a quantity", unit, exponents, scale)


def name_of(exponents: Exponents) -> str:
    """`a length` and so on; empty where the dimension has no name here."""
    return next((d.name for d in DIMENSIONS if d.exponents == exponents), "")


def written(value: float, dimension: Dimension, *, digits: int = 6) -> str | float:
    """A quantity [SI] as physim writes it into files, to be read back by `parse`."""
    number = float(f"{value / dimension.scale:.{digits}g}")
    return f"{number:.{digits}g} {dimension.unit}" if dimension.unit else number


def shown(value: object) -> str:
    """A given value, short enough for a message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        text = "[" + ", ".join(shown(v) for v in value) + "]"
    elif value is None:
        return "nothing"
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _same(given: Exponents, expected: Exponents) -> bool:
    """Radians count as plain numbers where an angle is expected, so `1/s` is a spin."""
    if given == expected:
        return True
    return given[:3] == expected[:3] and given[3] == 0 and expected[3] != 0 and expected != ANGLE.exponents


def _finite(number: float, value: object, expected: Dimension) -> float:
    if not math.isfinite(number):
        raise UnitError(f"expected {expected.label}, got {shown(value)}, which is not a finite number")
    return number


def _suggest(name: str) -> str:
    alike = [u for u in UNITS if u.lower() == name.lower()]
    if alike:
        return f" Did you mean '{alike[0]}'?"
    common = ("m", "cm", "mm", "s", "ms", "kg", "g", "Pa", "kPa", "MPa", "GPa", "N", "deg", "rad", "Hz")
    hint = nearest(name, common)
    return hint if "Did you" in hint else " Examples of units: mm, kPa, kg/m^3, Pa s, m/s^2, deg."


def _example(expected: Dimension) -> str:
    if not expected.unit:
        return ""
    return f"; write a number or text such as '2 {expected.unit}'"
