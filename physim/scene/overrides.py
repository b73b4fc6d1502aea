"""Changes to a scene from the command line (`--set path=value`, `--data name=path`) or from a recording."""

from __future__ import annotations

from typing import Any

from physim.errors import InputError, nearest
from physim.scene.document import Document, Key, Where, parse_yaml

# Sections whose entries carry the user's own names: a path through an unknown name is a misspelling.
NAMED = (
    "materials", "bodies", "colliders", "clamps", "loads", "cameras", "observe", "data", "tables",
    "states", "recordings",
)  # fmt: skip


# Components of a vector by letter: `bodies.ball.velocity.x`.
AXES = {"x": "0", "y": "1", "z": "2"}


def apply_text(document: Document, text: str) -> None:
    """Apply `materials.beam.E=80kPa`, as typed after `--set`.

    The value is read like YAML: numbers, text, `[lists]`, `{mappings: ...}`; `null` removes the entry.

    Raises:
        InputError: no `=`, not YAML, or a path that leads through something that is no mapping or list.
    """
    name, sign, value = text.partition("=")
    where = Where(f"--set {text}", folder=document.where(()).folder, typed=True)
    if not sign or not name.strip() or not value.strip():
        raise InputError(f"{where}: expected PATH=VALUE, such as --set materials.beam.E=80kPa.")
    if ": " in value and not value.lstrip().startswith(("{", "[", '"', "'")):
        raise InputError(f"{where}: write a mapping in braces, such as {{type: stick}}.")
    plain, places = parse_yaml(value, where)
    apply(document, name.strip(), plain, where, places)


def apply_data(document: Document, text: str) -> None:
    """Apply `name=path`, as typed after `--data`: the table `data.name`, or `states.name`, is read from that file.

    Raises:
        InputError: no such table, and no such states.
    """
    name, sign, path = text.partition("=")
    where = Where(f"--data {text}", folder=document.where(()).folder, typed=True)
    tables = document.data.get("data")
    known = tables if isinstance(tables, dict) else {}
    states = document.data.get("states")
    states = states if isinstance(states, dict) else {}
    if not sign or not path:
        told = ", ".join([*known, *states])
        raise InputError(f"{where}: expected NAME=PATH. Tables and states of this scene: {told or 'none'}.")
    if name in states:
        apply(document, f"states.{name}.file", path, where, {(): where})
        if isinstance(states[name], dict):
            states[name].pop("scene", None)
        return
    if name not in known:
        raise InputError(f"{where}: the scene has no data table '{name}'.{nearest(name, [*known, *states])}")
    apply(document, f"data.{name}.file", path, where, {(): where})
    if isinstance(known[name], dict):
        known[name].pop("rows", None)


def apply(document: Document, name: str, value: Any, where: Where, places: dict[Key, Where] | None = None) -> None:
    """Set the entry at the dotted path `name`, which may be new if its parent may hold it.

    Raises:
        InputError: the path does not fit the scene.
    """
    path = find(document, name, where)
    if value is None:
        parent: Any = document.at(path[:-1]) if path[:-1] else document.data
        if not isinstance(parent, dict) or path[-1] not in parent:
            raise InputError(f"{where}: the scene has no '{name}' to remove.")
        del parent[path[-1]]
        document.forget(path)
        return
    document.put(path, value, places or {(): where})


def find(document: Document, name: str, where: Where) -> Key:
    """The path that a dotted name means; keys that contain dots are found too.

    Missing mappings on the way are added, except in sections whose entries the user names.

    Raises:
        InputError: the path leads through a number or text, past the end of a list, or through an unknown name.
    """
    parts = name.replace("[", ".").replace("]", "").split(".")
    node: Any = document.data
    path: Key = ()
    while parts:
        if isinstance(node, list):
            given = parts.pop(0)
            part = AXES.get(given, given)
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(f"{where}: '{given}' is not an index from 0 to {len(node) - 1}, or one of x, y, z.")
            path = (*path, int(part))
            node = node[int(part)]
            continue
        if not isinstance(node, dict):
            raise InputError(f"{where}: '{'.'.join(map(str, path))}' is {node!r}, which has no entry '{parts[0]}'.")
        size = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in node), 0)
        key = ".".join(parts[: size or 1])
        if size == 0 and len(parts) > 1:
            if len(path) == 1 and path[0] in NAMED:
                full = ".".join([*map(str, path), key])
                raise InputError(f"{where}: the scene has no '{full}'.{nearest(key, node)}")
            node[key] = {}
            document.places[(*path, key)] = where
        parts = parts[size or 1 :]
        path = (*path, key)
        node = node.get(key)
        if node is None and parts:
            raise InputError(f"{where}: '{'.'.join(map(str, path))}' is empty.")
    return path
