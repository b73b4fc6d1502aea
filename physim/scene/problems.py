"""What is wrong with a scene, told in one message: file, line, YAML path, what was given, what was expected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from physim.errors import InputError, nearest
from physim.scene.document import Document, Key, Where
from physim.scene.units import shown


@dataclass(frozen=True)
class Problem:
    """One thing to correct.

    Attributes:
        where: file and line, or the override that brought it.
        path: YAML path.
        message: what was given and what was expected.
    """

    where: Where
    path: Key
    message: str

    def __str__(self) -> str:
        told = self.message if self.message.endswith((".", "?")) else self.message + "."
        return f"{self.where}: {dotted(self.path)}: {told}" if self.path else f"{self.where}: {told}"


class SceneError(InputError):
    """Everything found wrong with a scene, together.

    Attributes:
        problems: one entry per mistake, in the order of the file.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.where.line is not None, p.where.line or 0)))
        lines = [str(p) for p in self.problems]
        super().__init__(lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} problems:", *lines]))


class Findings:
    """Collects problems and warnings while a scene is read."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def add(self, path: Key, message: str) -> None:
        """Note a mistake at `path`."""
        problem = Problem(self.document.where(path), path, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, path: Key, message: str) -> None:
        """Note something that is allowed, and probably not meant."""
        self.warnings.append(str(Problem(self.document.where(path), path, message)))

    def stop_if_any(self) -> None:
        """Raise `SceneError` when there is a problem."""
        if self.problems:
            raise SceneError(self.problems)


def dotted(path: Key) -> str:
    """`bodies.cube.velocity[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def translate(findings: Findings, errors: Sequence[Any], seen: dict[int, Any]) -> None:
    """Add pydantic's errors in our words.

    Args:
        findings: collects them.
        errors: `ValidationError.errors()`.
        seen: which model was asked to read which raw mapping (by `id`), for the allowed keys.
    """
    for error in errors:
        path = yaml_path(findings.document, error["loc"], error["type"])
        findings.add(path, _words(error, path, findings.document, seen))


def yaml_path(document: Document, loc: tuple[Any, ...], kind: str) -> Key:
    """The part of pydantic's location that exists in the file (it also names union members)."""
    node: Any = document.data
    path: Key = ()
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(node, dict) and part in node:
            node, path = node[part], (*path, part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node, path = node[part], (*path, part)
        elif last and kind == "missing" and isinstance(node, dict):
            path = (*path, part)
    return path


def _words(error: Any, path: Key, document: Document, seen: dict[int, Any]) -> str:
    kind, given, context = error["type"], error.get("input"), error.get("ctx") or {}
    if error["loc"][-1:] == ("[key]",):
        return _name_words(given, path)
    if kind == "extra_forbidden":
        model = seen.get(id(document.at(path[:-1])))
        allowed = [f.alias or n for n, f in model.model_fields.items()] if model is not None else []
        return f"unknown key '{path[-1]}'.{nearest(str(path[-1]), allowed)}"
    if kind == "missing":
        return f"required, and missing from '{dotted(path[:-1])}'" if path[:-1] else "required, and missing"
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        allowed = _allowed(context)
        value = context.get("tag", given)
        hint = nearest(str(value), allowed)
        rest = f" Allowed: {', '.join(allowed)}." if "Did you" in hint else ""
        return f"got {shown(value)}, which is not allowed.{hint}{rest}"
    if kind == "union_tag_not_found":
        tag = str(context.get("discriminator", "")).strip("'")
        told = "" if isinstance(given, dict) else f", got {shown(given)}"
        return f"expected a mapping with a `{tag}`, such as `{tag}: position`{told}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {shown(given)}"
    if kind in _LIMITS:
        word, key = _LIMITS[kind]
        return f"must be {word} {context[key]}, got {shown(given)}"
    if kind in ("too_short", "too_long"):
        count = context.get("min_length", context.get("max_length"))
        bound = "at least" if kind == "too_short" else "at most"
        return f"expected {bound} {count} entries, got {context.get('actual_length')}"
    return str(error["msg"]).removeprefix("Value error, ")


_EXPECTED = {
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "dict_type": "a mapping (`name: ...` lines)",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
}

_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


_SINGULAR = {
    "materials": "material",
    "bodies": "body",
    "colliders": "collider",
    "clamps": "clamp",
    "loads": "load",
    "cameras": "camera",
    "data": "table",
    "tables": "table",
    "recordings": "recording",
}


def _name_words(given: Any, path: Key) -> str:
    """What is wrong with a name that the user chose, and a name like it that is allowed."""
    plain = unicodedata.normalize("NFKD", str(given)).encode("ascii", "ignore").decode()
    tried = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_")
    if not tried[:1].isalpha():
        tried = "_".join(filter(None, [_SINGULAR.get(str(path[0]) if path else "", "name"), tried]))
    return (
        f"{shown(given)} cannot be a name: a name is made of the letters a to z, digits, _ and -, and begins with a "
        f"letter, because it is part of paths such as materials.beam.E. Try '{tried}'"
    )


def _allowed(context: dict[str, Any]) -> list[str]:
    """The allowed words out of pydantic's sentence `'a', 'b' or 'c'`."""
    text = str(context.get("expected", context.get("expected_tags", "")))
    return [word.strip(" '\"") for word in text.replace(" or ", ", ").split(", ") if word.strip(" '\"")]


def known(findings: Findings, path: Key, what: str, name: str, names: Iterable[str]) -> bool:
    """Whether `name` is among `names`; notes a problem otherwise."""
    names = list(names)
    if name in names:
        return True
    findings.add(path, f"no {what} '{name}'.{nearest(name, names) or f' The scene has no {what}.'}")
    return False
