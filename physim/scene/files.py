"""Files that entries of a scene name: found, checked to lie where they may, and known to whoever copies a scene."""

from __future__ import annotations

from typing import Any

from physim.errors import InputError
from physim.scene.document import Key
from physim.scene.law_tables import ADDED
from physim.scene.paths import resolve
from physim.scene.problems import Findings

SECTIONS = ("materials", "bodies", "colliders", "data", "states")
"""Sections whose entries may name files, under the key `file`."""


def resolve_files(findings: Findings) -> None:
    """Turn every `file` entry into the absolute path of a file that exists."""
    document = findings.document

    def visit(node: Any, path: Key) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "file" and isinstance(value, str):
                    try:
                        node[key] = str(resolve(value, document.where((*path, key))))
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
