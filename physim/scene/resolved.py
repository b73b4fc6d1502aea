"""The resolved copy of a scene: includes and overrides applied, files beside it, so that it runs again as it is."""

from __future__ import annotations

import copy
import io
import shutil
from pathlib import Path
from typing import Any

from physim.scene.files import FOLDERS, SECTIONS, files_of
from physim.scene.loader import Scene
from physim.scene.rundir import write_atomic

RESOLVED = "scene.yaml"
INPUTS = "inputs"


def write_resolved(scene: Scene, folder: Path) -> Path:
    """Write `scene.yaml` and the files it names into `folder`; returns its path."""
    from ruamel.yaml import YAML

    data = copy.deepcopy(scene.document.data)
    if scene.recording is not None:
        data.pop("recordings", None)
    taken: dict[str, str] = {}
    for section in SECTIONS:
        _gather(data.get(section), folder, taken)
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    yaml.dump(data, stream)
    changes = [f"--set {o}" for o in scene.overrides] + [f"--data {d}" for d in scene.data]
    changes += [f"recording {scene.recording}"] if scene.recording else []
    head = f"# {scene.file.name}" + (f" with {', '.join(changes)}" if changes else "") + "\n"
    write_atomic(folder / RESOLVED, head.replace("\n", " ").rstrip() + "\n" + stream.getvalue())
    return folder / RESOLVED


def _gather(node: Any, folder: Path, taken: dict[str, str]) -> None:
    """Copy every named file, and what is read in every named folder, into `inputs/`, and name the copy instead."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(entries):
        files = files_of(key, value)
        if not files:
            _gather(value, folder, taken)
            continue
        if value not in taken:
            name = Path(value).name
            unique = name if f"{INPUTS}/{name}" not in taken.values() else f"{len(taken)}-{name}"
            taken[value] = f"{INPUTS}/{unique}"
            for file in files:
                copy_to = folder / INPUTS / unique / (file.name if key in FOLDERS else "")
                copy_to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy_to)
        node[key] = taken[value]
