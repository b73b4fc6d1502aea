"""Property checks of laws by name, and of material files with their own values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from physim.errors import InputError, nearest
from physim.scene.document import Where
from physim.scene.materials import MaterialSpec, make_material, read_material_file
from physim.scene.paths import find_material

if TYPE_CHECKING:
    from physim.laws.material import Material
    from physim.laws.reach import Reach
    from physim.laws.subject import Check


def verify_laws(names: Sequence[str] | None, *, single: bool = False) -> Iterator[tuple[str, bool]]:
    """A line per checked property, and whether it holds; for a learned material also the strains that are looked at,
    and a verdict.

    Args:
        names: registered laws, or material files ending in .yaml; None for every registered law.
        single: evaluate in single precision.

    Raises:
        InputError: nothing named, or an unknown law.
    """
    from physim.laws import LAWS
    from physim.laws.verify import verify
    from physim.numeric import F32, F64

    if names is not None and not names:
        raise InputError(f"name a law, or use --all. Laws: {', '.join(sorted(LAWS))}.")
    specs: dict[str, MaterialSpec | None] = {}
    for name in LAWS if names is None else names:
        if name.endswith((".yaml", ".yml")):
            specs[name] = read_material_file(find_material(name, Where("command line", typed=True)))
        elif name in LAWS:
            specs[name] = None
        else:
            raise InputError(f"unknown law '{name}'.{nearest(name, LAWS)}")
    for name, spec in specs.items():
        reach = None
        if spec is not None and (spec.network or spec.learned):
            reach = visited(spec)
            yield f"{name:20} {_training(spec, reach)}", True
        checks = verify(name if spec is None else make_material(spec), F32 if single else F64, reach=reach)
        for check in checks:
            yield _line(name, check), check.passed
        if reach is not None:
            yield f"{name:20} verdict: {_verdict(checks, reach)}", True


def figures(material: Material, reach: Reach, *, samples: int = 2000) -> dict[str, Any]:
    """What a material file tells of its checks: the verdict, and what was measured by property.

    Args:
        material: with the learned law.
        reach: strains that training held.
        samples: of random states.
    """
    from physim.laws.verify import verify

    checks = verify(material, samples=samples, reach=reach)
    # Keys without blanks stay whole where a line of a file is broken.
    names = [c.property.replace("'", "").replace(" ", "_") for c in checks]
    values = [float(f"{c.value:.2g}") if math.isfinite(c.value) else str(c.value) for c in checks]
    return {"verdict": _verdict(checks, reach), **dict(zip(names, values, strict=True))}


def visited(spec: MaterialSpec) -> Reach:
    """The strains that training held, as the file tells; a common range where it does not."""
    from physim.laws.reach import Reach

    told = spec.learned.reach if spec.learned else None
    return told or Reach()


def _training(spec: MaterialSpec, reach: Reach) -> str:
    learned = spec.learned
    span = f"strain to {reach.strain:.3g}, J {reach.volume[0]:.3g} to {reach.volume[1]:.3g}"
    if learned is None or learned.reach is None:
        return f"training: the file does not tell what it held; looked at: {span}"
    misfit = f"; misfit {100.0 * learned.misfit:.3g} %" if learned.misfit is not None else ""
    return f"training: {span}{misfit}" + (f"; {learned.source}" if learned.source else "")


def _line(name: str, check: Check) -> str:
    told = "ok" if check.passed else "FAILS"
    if math.isinf(check.bar):  # told, not judged
        return f"{name:20} {check.property:22} {check.value:9.2e}  {'':11}  {'':5}  {check.note}"
    return f"{name:20} {check.property:22} {check.value:9.2e}  bar {check.bar:7.1e}  {told:5}  {check.note}"


def _verdict(checks: list[Check], reach: Reach) -> str:
    """One sentence of what can be relied on."""
    failed = [c.property for c in checks if not c.passed]
    if failed:
        return f"not sound: {', '.join(failed)}"
    beyond = next(c for c in checks if c.property == "ellipticity beyond")
    edge = f"sound within strains of {reach.strain:.3g}"
    return f"{edge}; waves are lost beyond" if beyond.value > 0.0 else f"{edge}, and elliptic 1.5 times beyond"
