"""The `network` of a law in a material: sizes and a seed, or a file of weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physim.errors import InputError, nearest
from physim.scene.document import Key
from physim.scene.problems import Findings
from physim.scene.units import shown
from physim.scene.weights_file import read_weights

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """Weights of a learned law.

    Attributes:
        module: the weights, drawn or read; every material has its own copy.
        file: where they were read from, or None.
        seed: with which they were drawn, or None.
    """

    module: nn.Module
    file: Path | None = None
    seed: int | None = None

    def law(self, family: str) -> Any:
        """The law of this size."""
        from physim.laws.neural import learned_law

        return learned_law(family, self._plan.options())

    def weights(self) -> nn.Module:
        """A module of one's own with these weights."""
        return copy.deepcopy(self.module)

    def replaced(self, flat: Tensor) -> NetworkSpec:
        """The same law with these raw weights, (w,)."""
        from physim.laws.neural.flat import put_weights

        module = self.weights()
        put_weights(module, flat)
        return NetworkSpec(module)

    @property
    def _plan(self) -> Any:
        return self.module.plan


def read_network(law: str, given: Any, path: Key, findings: Findings) -> NetworkSpec | None:
    """The network of one of a material's laws; None for a law without, or where something is wrong and noted."""
    from physim.laws import LAWS
    from physim.laws.neural import FAMILIES, families_of, family_options, learned_law

    if law not in FAMILIES:
        if given is not None:
            some = ", ".join(sorted(families_of(type(LAWS[law]))))
            findings.add(path, f"'{law}' has no network. Laws that have one: {some or 'none'}")
        return None
    given = {} if given is None else given
    if not isinstance(given, dict):
        findings.add(path, f"expected sizes such as {{hidden: 16}}, or a .safetensors file, got {shown(given)}")
        return None
    known = [*family_options(law), "seed", "file"]
    for key in given:
        if key not in known:
            findings.add((*path, key), f"unknown key '{key}'.{nearest(key, known)}")
            return None
    seed, file = given.get("seed", 0), given.get("file")
    if type(seed) is not int or seed < 0:
        findings.add((*path, "seed"), f"expected a whole number from 0, got {shown(seed)}")
        return None
    options = {k: v for k, v in given.items() if k not in ("seed", "file")}
    try:
        if file is None:
            plan: Any = learned_law(law, options).network
            return NetworkSpec(plan.make(seed), seed=seed)
        if not Path(str(file)).is_file():
            return None  # noted where files are found
        module: Any = read_weights(Path(str(file)))
    except InputError as error:
        findings.add(path, str(error).rstrip("."))
        return None
    plan = module.plan
    if plan.family != law:
        findings.add(path, f"these weights are of {plan.family}, not of {law}")
        return None
    for key, value in options.items():
        if plan.options()[key] != value:
            findings.add((*path, key), f"the file's weights have {key}: {plan.options()[key]}, not {shown(value)}")
            return None
    return NetworkSpec(module, Path(str(file)))
