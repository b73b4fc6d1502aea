"""Property checks of laws by name, and of material files with their own values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from physim.errors import InputError, nearest
from physim.scene.document import Where
from physim.scene.materials import make_material, read_material_file
from physim.scene.paths import find_material


def verify_laws(names: Sequence[str] | None, *, single: bool = False) -> Iterator[tuple[str, bool]]:
    """A line per checked property, and whether it holds.

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
    subjects = {}
    for name in LAWS if names is None else names:
        if name.endswith((".yaml", ".yml")):
            subjects[name] = make_material(read_material_file(find_material(name, Where("command line", typed=True))))
        elif name in LAWS:
            subjects[name] = name
        else:
            raise InputError(f"unknown law '{name}'.{nearest(name, LAWS)}")
    for name, subject in subjects.items():
        for check in verify(subject, F32 if single else F64):
            verdict = "ok" if check.passed else "FAILS"
            line = f"{name:20} {check.property:22} {check.value:9.2e}  bar {check.bar:7.1e}  {verdict:5}  {check.note}"
            yield line, check.passed
