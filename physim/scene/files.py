"""Files that entries of a scene name: found, checked to lie where they may, and known to whoever copies a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from physim.errors import InputError
from physim.scene.document import Key
from physim.scene.law_tables import ADDED
from physim.scene.paths import resolve
from physim.scene.problems import Findings

SECTIONS = ("materials", "bodies", "colliders", "cameras", "videos", "observe", "data", "states")
"""Sections whose entries may name files, under the key `file` or a key of `FOLDERS`."""

FOLDERS = {"colmap": ("cameras.txt", "images.txt"), "pictures": ("*.*",)}
"""Keys that name a folder, with the patterns of what is read in it."""


def files_of(key: str | int, value: Any) -> list[Path]:
    """The files that an entry names, in order, once paths are resolved; none where it names no file."""
    if not isinstance(value, str) or (key != "file" and key not in FOLDERS):
        return []
    if key == "file":
        return [Path(value)]
    return sorted({path for pattern in FOLDERS[str(key)] for path in Path(value).glob(pattern) if path.is_file()})


def resolve_files(findings: Findings) -> None:
    """Turn every entry that names a file or a folder into the absolute path of one that exists."""
    document = findings.document

    def visit(node: Any, path: Key) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if (key == "file" or key in FOLDERS) and isinstance(value, str):
                    try:
                        node[key] = str(resolve(value, document.where((*path, key)), folder=key in FOLDERS))
                    except InputError as error:
                        findings.add((*path, key), str(error))
                else:
                    visit(value, (*path, key))
        elif isinstance(node, list):
            for i, value in enumerate(node):
                visit(value, (*path, i))

    materials = document.data.get("materials")
    for entry in materials.values() if isinstance(materials, dict) else ():
        for law in (entry, *(entry.get(part) for part in ADDED)) if isinstance(entry, dict) else ():
            if isinstance(law, dict) and isinstance(law.get("network"), str):
                # `network: jelly.safetensors` is short for `network: {file: jelly.safetensors}`.
                law["network"] = {"file": law["network"]}
    for section in SECTIONS:
        visit(document.data.get(section), (section,))
