"""What a fit was started with, part by part, so that a checkpoint of another fit is refused."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import physim
from physim.fit.settings import fit_part
from physim.scene.files import SECTIONS, files_of
from physim.scene.loader import Scene


def fingerprint(scene: Scene) -> dict[str, str]:
    """A digest by part: the version of physim, the scene with its overrides, and the content of every file it reads.

    Files count by content, wherever they lie; those that only a recording or a stage reads are included.
    """
    parts = {"the version of physim": physim.__version__}
    plain, _ = _without_paths(scene)
    parts["the scene or its overrides"] = _digest(json.dumps(plain, sort_keys=True, default=str).encode())
    stages = [tuple(f"{k}={v}" for k, v in s.set.items()) for s in fit_part(scene).stages]
    read = [scene, *(scene.changed(recording=r) for r in scene.spec.recordings)]
    read += [one.changed(overrides) for overrides in stages if overrides for one in list(read)]
    contents: dict[str, set[str]] = {}
    for one in read:
        _, files = _without_paths(one)
        for place, path in files:
            contents.setdefault(f"the file {Path(path).name} ({place})", set()).add(_digest(Path(path).read_bytes()))
    return parts | {name: " ".join(sorted(found)) for name, found in contents.items()}


def _without_paths(scene: Scene) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The entries with file names instead of paths, and (place, path) of every file."""
    plain = copy.deepcopy(scene.document.data)
    found: list[tuple[str, str]] = []

    def visit(node: Any, place: str) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            inner = f"{place}.{key}"
            files = files_of(key, value)
            if files:
                found.extend((inner, str(path)) for path in files)
                node[key] = Path(value).name
            elif isinstance(value, (dict, list)):
                visit(value, inner)

    for section in SECTIONS:
        if isinstance(plain.get(section), dict):
            visit(plain[section], section)
    return plain, found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
