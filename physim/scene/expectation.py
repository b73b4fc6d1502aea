"""The number that a scene is tested by, read from a rollout's gauges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physim.scene.loader import Scene
from physim.scene.spec_measure import ExpectPart


@dataclass(frozen=True)
class Verdict:
    """A measured number beside the one expected.

    Attributes:
        meaning: what it is.
        value: measured [SI].
        expected: [SI].
        tolerance: largest difference allowed [SI].
        unit: SI unit.
    """

    meaning: str
    value: float
    expected: float
    tolerance: float
    unit: str

    @property
    def ok(self) -> bool:
        """Whether the number is as expected."""
        return bool(abs(self.value - self.expected) <= self.tolerance)

    def __str__(self) -> str:
        sign = "as expected" if self.ok else "NOT as expected"
        return (
            f"{self.meaning}: {self.value:.5g} {self.unit}, {sign} "
            f"({self.expected:.5g} +- {self.tolerance:.2g} {self.unit})"
        )


def verdict(
    scene: Scene, times: Sequence[float], series: dict[str, np.ndarray], units: dict[str, str]
) -> Verdict | None:
    """Compare the expected observation with what the gauges read; None where the scene expects another number.

    Args:
        scene: the scene.
        times: frame times [s], (F,).
        series: values of each observation, (F, k).
        units: unit of each observation.
    """
    part = scene.spec.expect
    if part is None or part.quantity != "observation" or part.observe is None:
        return None
    value = at_time(part, np.asarray(times), series[part.observe][:, 0])
    return Verdict(part.meaning, value, part.value, part.tolerance, units[part.observe])


def at_time(part: ExpectPart, times: np.ndarray, values: np.ndarray) -> float:
    """The value that `at` names: final, max, min, mean, or interpolated at a time [s]."""
    if isinstance(part.at, str):
        pick = {"final": lambda v: v[-1], "max": np.max, "min": np.min, "mean": np.mean}
        return float(pick[part.at](values))
    return float(np.interp(part.at, times, values))
