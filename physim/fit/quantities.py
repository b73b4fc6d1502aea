"""Values with units as people read them."""

from __future__ import annotations

import math

from physim.fit.uncertainty import Estimate, Weights

PREFIXED = ("Pa", "Pa s", "m", "m/s", "s", "N", "kg", "m/s^2")


def shown(value: float, unit: str) -> str:
    """A value with its unit and a prefix that keeps it readable, four digits."""
    if not math.isfinite(value):
        return ("-∞" if value < 0 else "∞") if not math.isnan(value) else "-"
    if unit == "1":
        unit = ""
    if unit == "rad":
        return f"{math.degrees(value):.4g} deg"
    if unit in PREFIXED and value != 0 and not (unit == "kg"):
        for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
            if abs(value) >= 0.9999 * factor:
                return f"{value / factor:.4g} {letter}{unit}"
    return f"{value:.4g} {unit}".rstrip()


def interval(estimate: Estimate) -> str:
    """The interval in words."""
    return f"{shown(estimate.low, estimate.unit)} to {shown(estimate.high, estimate.unit)}"


def weights_words(weights: Weights) -> str:
    """A block of weights in words."""
    told = "" if math.isnan(weights.determined) else f", {weights.determined:.1f} of them fixed by the data"
    return f"{weights.count} weights, moved by {weights.moved:.2g} (rms){told}"
