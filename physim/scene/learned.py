"""What a material file says of how it was learned: strains that training held, misfit, source, and what was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from physim.errors import nearest
from physim.scene.document import Key
from physim.scene.problems import Findings
from physim.scene.units import NUMBER, UnitError, parse, shown

if TYPE_CHECKING:
    from physim.laws.reach import Reach

TEXTS = ("source", "scene", "version")
TABLES = ("errors", "checks")
KEYS = ("range", "misfit", *TEXTS, "seed", *TABLES)
RANGE = ("strain", "J")


@dataclass(frozen=True)
class LearnedSpec:
    """The `learned` section of a material.

    Attributes:
        strain: largest norm of the Hencky strain |log(F F^T)/2| seen in training [-], or None.
        volume: least and largest J seen in training [-], or None.
        misfit: error of the training as a share [-], or None.
        source: what it was learned from.
        scene: which scene made it, or None.
        version: of physim that did, or None.
        seed: of the weights it began with, or None.
        errors: of its predictions: what, and a number or text with a unit.
        checks: figures of `physim check law`, by property, and the verdict.
    """

    strain: float | None = None
    volume: tuple[float, float] | None = None
    misfit: float | None = None
    source: str | None = None
    scene: str | None = None
    version: str | None = None
    seed: int | None = None
    errors: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reach(self) -> Reach | None:
        """The visited strains, if told."""
        from physim.laws.reach import Reach

        return None if self.strain is None or self.volume is None else Reach(self.strain, self.volume)

    def written(self) -> dict[str, Any]:
        """The section as files have it."""
        data: dict[str, Any] = {}
        if self.strain is not None and self.volume is not None:
            data["range"] = {"strain": float(f"{self.strain:.4g}"), "J": [float(f"{J:.4g}") for J in self.volume]}
        if self.misfit is not None:
            data["misfit"] = f"{100.0 * self.misfit:.3g} %"
        told = {key: getattr(self, key) for key in (*TEXTS, "seed")}
        data |= {key: value for key, value in told.items() if value is not None}
        return data | {key: dict(getattr(self, key)) for key in TABLES if getattr(self, key)}


def read_learned(given: Any, path: Key, findings: Findings) -> LearnedSpec | None:
    """The section of one material; None where there is none, or where something is wrong and noted."""
    if given is None:
        return None
    before = len(findings.problems)
    reader = _Reader(findings)
    strain = volume = misfit = None
    if reader.known(given, KEYS, path):
        visited = given.get("range")
        if visited is not None and reader.known(visited, RANGE, (*path, "range")):
            strain, volume = reader.visited(visited, (*path, "range"))
        if "misfit" in given:
            misfit = reader.number(given["misfit"], (*path, "misfit"), at_least=0.0)
        for key in TEXTS:
            if not isinstance(given.get(key, ""), str):
                findings.add((*path, key), f"expected text, got {shown(given[key])}")
        if type(given.get("seed", 0)) is not int:
            findings.add((*path, "seed"), f"expected a whole number, got {shown(given['seed'])}")
        for key in TABLES:
            reader.table(given.get(key, {}), (*path, key))
    if len(findings.problems) > before:
        return None
    rest = {key: given[key] for key in (*TEXTS, "seed", *TABLES) if key in given}
    return LearnedSpec(strain, volume, misfit, **rest)


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def known(self, given: Any, keys: tuple[str, ...], path: Key) -> bool:
        if not isinstance(given, dict):
            self.findings.add(path, f"expected a mapping with {', '.join(keys)}, got {shown(given)}")
            return False
        wrong = [key for key in given if key not in keys]
        for key in wrong:
            self.findings.add((*path, key), f"unknown key '{key}'.{nearest(str(key), keys)}")
        return not wrong

    def table(self, given: Any, path: Key) -> None:
        """Numbers or short texts by name, which nothing reads but people."""
        if not isinstance(given, dict):
            self.findings.add(path, f"expected names with numbers or texts, got {shown(given)}")
            return
        for key, value in given.items():
            if not isinstance(value, (str, int, float)):
                self.findings.add((*path, str(key)), f"expected a number or text, got {shown(value)}")

    def visited(self, given: dict[str, Any], path: Key) -> tuple[float | None, tuple[float, float] | None]:
        for key in RANGE:
            if key not in given:
                self.findings.add((*path, key), "required, and missing: write {strain: 0.3, J: [0.9, 1.1]}")
                return None, None
        strain = self.number(given["strain"], (*path, "strain"), above=0.0)
        ends = given["J"]
        if not isinstance(ends, list) or len(ends) != 2:
            self.findings.add((*path, "J"), f"expected the least and the largest, as [0.9, 1.1], got {shown(ends)}")
            return None, None
        low, high = (self.number(end, (*path, "J", i), above=0.0) for i, end in enumerate(ends))
        if low is None or high is None:
            return None, None
        if not low <= 1.0 <= high:
            self.findings.add((*path, "J"), f"expected a range around 1, the volume at rest, got {shown(ends)}")
        return strain, (low, high)

    def number(
        self, given: Any, path: Key, *, above: float | None = None, at_least: float | None = None
    ) -> float | None:
        try:
            value = parse(given, NUMBER)
        except UnitError as error:
            self.findings.add(path, str(error))
            return None
        if (above is not None and value <= above) or (at_least is not None and value < at_least):
            told = f"above {above:g}" if above is not None else f"{at_least:g} or more"
            self.findings.add(path, f"must be {told}, got {shown(given)}")
            return None
        return value
