"""Materials by name or file: the entries of a material file take the place of `include`."""

from __future__ import annotations

from typing import Any

from physim.errors import InputError
from physim.scene.document import Document, Key, read_document
from physim.scene.law_tables import ADDED
from physim.scene.paths import find_material
from physim.scene.units import shown


def expand_includes(document: Document) -> None:
    """Replace `include: name`, and `beam: name` for short, by that material's entries; own entries win.

    Raises:
        InputError: no such material file, or one that includes another.
    """
    materials = document.data.get("materials")
    if not isinstance(materials, dict):
        return
    for name, entry in list(materials.items()):
        path: Key = ("materials", name)
        wanted = entry if isinstance(entry, str) else entry.get("include") if isinstance(entry, dict) else None
        if wanted is None:
            continue
        where = document.where(path if isinstance(entry, str) else (*path, "include"))
        if not isinstance(wanted, str):
            raise InputError(f"{where}: materials.{name}.include: expected a name or a file, got {shown(wanted)}.")
        try:
            other = read_document(find_material(wanted, where))
        except InputError as error:
            raise InputError(f"{where}: materials.{name}: {str(error).rstrip('.')}.") from None
        if "include" in other.data:
            raise InputError(f"{other.where(('include',))}: include: a material file cannot include another.")
        own = {k: v for k, v in entry.items() if k != "include"} if isinstance(entry, dict) else {}
        _merge(document, path, own, other)


def _merge(document: Document, path: Key, own: dict[str, Any], other: Document) -> None:
    """Put the included entries under the own ones, added laws by key; another law takes nothing over."""
    places = {p: w for p, w in document.places.items() if p[: len(path)] == path}
    base = other.data if own.get("law", other.data.get("law")) == other.data.get("law") else {}
    merged: dict[str, Any] = {**base, **own}
    for key in ADDED:
        mine, theirs = own.get(key), base.get(key)
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            continue
        if mine.get("law", theirs.get("law")) == theirs.get("law"):
            merged[key] = {**theirs, **mine}
    document.put(path, merged, {p: w for p, w in other.places.items() if p})
    document.places.update(places)
