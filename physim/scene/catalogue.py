"""The shipped scenes and materials, by name and title."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from physim.scene.document import read_document
from physim.scene.paths import MATERIALS, SCENES, shipped_files


@dataclass(frozen=True)
class Entry:
    """A shipped file.

    Attributes:
        name: what commands call it.
        title: its first line in words.
        path: where it is.
    """

    name: str
    title: str
    path: Path


def list_scenes() -> list[Entry]:
    """The shipped scenes."""
    return _entries(SCENES)


def list_materials() -> list[Entry]:
    """The shipped materials."""
    return _entries(MATERIALS)


def _entries(kind: str) -> list[Entry]:
    found = []
    for name, path in sorted(shipped_files(kind).items()):
        title = read_document(path).data.get("title")
        found.append(Entry(name, str(title or ""), path))
    return found
