"""YAML text to plain dicts, lists, numbers and strings, remembering the file and line of every entry."""

from __future__ import annotations

import datetime
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from physim.errors import InputError

# A path inside a document: ("materials", "beam", "E") or ("bodies", "cube", "velocity", 1).
Key = tuple[str | int, ...]

# Scenes are small; more is a mistake, or aliases that unfold into aliases.
LARGEST_FILE = 8_000_000
MOST_ENTRIES = 400_000


@dataclass(frozen=True)
class Where:
    """Where an entry was written.

    Attributes:
        source: a file, or the words of an override such as `--set materials.beam.E=80kPa`.
        line: line number from 1, or None for an override.
        folder: what relative paths in that entry start from.
        typed: given on the command line, where a path may lie anywhere.
    """

    source: str
    line: int | None = None
    folder: Path | None = None
    typed: bool = False

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass
class Document:
    """Plain data with the place of every entry.

    Attributes:
        data: nested dicts and lists of plain values.
        places: where each entry was written, by path.
    """

    data: dict[str, Any]
    places: dict[Key, Where] = field(default_factory=dict)

    def where(self, path: Key) -> Where:
        """The place of `path`, or of its nearest enclosing entry."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Where("scene")

    def at(self, path: Key) -> Any:
        """The value at `path`; None where there is none."""
        node: Any = self.data
        for part in path:
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                node = node[part]
            else:
                return None
        return node

    def put(self, path: Key, value: Any, places: dict[Key, Where]) -> None:
        """Replace or add the entry at `path`; `places` are relative to it."""
        node: Any = self.data if len(path) == 1 else self.at(path[:-1])
        node[path[-1]] = value
        self.forget(path)
        self.places.update({path + inner: where for inner, where in places.items()})

    def forget(self, path: Key) -> None:
        """Drop the places of an entry and of everything in it."""
        for old in [p for p in self.places if p[: len(path)] == path]:
            del self.places[old]


def display(path: Path) -> str:
    """A file name as short as it can be told from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def read_document(path: Path) -> Document:
    """Read one YAML 1.2 file.

    Raises:
        InputError: missing, not text, not YAML, a repeated key, a tag, or not a mapping at the top.
    """
    name = display(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file.") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}).") from None
    if len(raw) > LARGEST_FILE:
        raise InputError(f"{name}: {len(raw)} bytes is too large for a scene; put tables into a CSV file.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text (byte {error.start}). A scene is a YAML text file.") from None
    data, places = parse_yaml(text, Where(name, 1, path.resolve().parent))
    if data is None:
        raise InputError(f"{name}: the file is empty. `physim init` writes a first scene to start from.")
    if not isinstance(data, dict):
        raise InputError(f"{name}:1: expected `key: value` lines at the top, got {type(data).__name__}.")
    return Document(data, places)


def parse_yaml(text: str, start: Where) -> tuple[Any, dict[Key, Where]]:
    """Plain data from YAML text, and the place of every entry relative to its top.

    Args:
        text: YAML 1.2.
        start: place of the first line; `line` None gives every entry that one place.

    Raises:
        InputError: not YAML, a repeated key, or a tag.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    def place(line: int | None) -> Where:
        return start if start.line is None or line is None else Where(start.source, line + 1, start.folder)

    try:
        loaded = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        raise InputError(f"{place(mark.line if mark else None)}: {_first(error.problem)}; each key once.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = " Indent with spaces, not tabs." if "\t" in text else ""
        told = _first(error.problem or error.context)
        raise InputError(f"{place(mark.line if mark else None)}: not YAML: {told}.{hint}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{start}: not YAML: {_first(str(error))}.") from None
    reader = _Reader(place)
    return reader.plain(loaded, (), None), reader.places


class _Reader:
    """Turns the loader's nodes into plain values, noting their lines."""

    def __init__(self, place: Any) -> None:
        self.place = place
        self.places: dict[Key, Where] = {}

    def plain(self, node: Any, path: Key, line: int | None) -> Any:
        self.places[path] = self.place(line if line is not None else 0)
        if len(self.places) > MOST_ENTRIES:
            raise InputError(f"{self.place(line)}: more than {MOST_ENTRIES} entries; put tables into a CSV file.")
        self.refuse_tag(node, line)
        if isinstance(node, dict):
            return self.mapping(node, path, line)
        if isinstance(node, list):
            lines = getattr(getattr(node, "lc", None), "data", None) or {}
            return [self.plain(v, (*path, i), lines[i][0] if i in lines else line) for i, v in enumerate(node)]
        return _scalar(node)

    def mapping(self, node: Any, path: Key, line: int | None) -> dict[str, Any]:
        lines = getattr(getattr(node, "lc", None), "data", None) or {}
        result = {}
        for key, value in node.items():
            at = lines[key][0] if key in lines else line
            if not isinstance(key, str):
                raise InputError(f"{self.place(at)}: the key {key!r} must be text; put it in quotes.")
            result[str(key)] = self.plain(value, (*path, str(key)), at)
        return result

    def refuse_tag(self, node: Any, line: int | None) -> None:
        tag = str(getattr(getattr(node, "tag", None), "value", None) or "")
        if (tag and not tag.startswith("tag:yaml.org,2002:")) or "python" in tag:
            raise InputError(f"{self.place(line)}: the tag {tag} is not allowed; a scene is plain data.")


def _scalar(node: Any) -> Any:
    """A plain Python value; dates are kept as text."""
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node) if math.isfinite(node) else math.nan if math.isnan(node) else float(node)
    if isinstance(node, (datetime.date, datetime.datetime)):
        return node.isoformat()
    return str(node)


def _first(text: Any) -> str:
    """The first line of a parser's message."""
    lines = str(text or "unreadable").strip().splitlines()
    return lines[0].rstrip(".") if lines else "unreadable"
