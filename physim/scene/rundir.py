"""The folder that a run or a fit leaves behind: its name, and files that are never half written."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from physim.errors import InputError


def new_run_folder(name: str, root: str | Path = "runs") -> Path:
    """Create and return `root/<name>-<time>/`; a number is appended where that folder exists.

    Args:
        name: usually the scene's file name without its suffix; characters unfit for a file name become `_`.
        root: the folder that collects runs; created when absent.

    Raises:
        InputError: the folder cannot be made.
    """
    stem = f"{file_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    for attempt in range(1000):
        folder = Path(root) / (stem if attempt == 0 else f"{stem}-{attempt + 1}")
        try:
            folder.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            if Path(root).exists() and not Path(root).is_dir():
                raise InputError(f"{root}: expected a folder for the results, got a file.") from None
            continue
        except OSError as error:
            hint = "Choose another with --out."
            raise InputError(f"cannot make the folder {folder}: {error.strerror}. {hint}") from None
        return folder
    raise InputError(f"{root}: a thousand runs named {stem} exist; choose another folder with --out.")


def file_name(name: str) -> str:
    """`name` with the characters that are unfit for a file name replaced by `_`; it cannot leave a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._") or "run"


def run_folders(name: str, root: str | Path = "runs") -> list[Path]:
    """The folders that `new_run_folder` made for this name, oldest first."""
    made = re.compile(re.escape(file_name(name)) + r"-\d{8}-\d{6}(-\d+)?")
    root = Path(root)
    found = [p for p in root.iterdir() if p.is_dir() and made.fullmatch(p.name)] if root.is_dir() else []
    return sorted(found, key=lambda p: p.stat().st_mtime)


def write_atomic(path: str | Path, data: bytes | str | Iterable[bytes]) -> None:
    """Write `data` so that a reader finds the old file or the whole new one, even after `kill -9`.

    Text is written as UTF-8. The bytes, whole or one part after the other, reach the disk before the name changes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode("utf-8") if isinstance(data, str) else data
    parts = [raw] if isinstance(raw, bytes) else raw
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append_jsonl(path: str | Path, record: dict[str, Any]) -> None:
    """Append one line of JSON; a line that an earlier kill cut short is dropped first.

    Non-finite numbers become strings ("nan", "inf"), because JSON has none.
    """
    line = json.dumps(_plain(record), allow_nan=False, separators=(", ", ": ")) + "\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as stream:
        _drop_cut_line(stream)
        stream.write(line.encode("utf-8"))


def _drop_cut_line(stream: BinaryIO) -> None:
    """Shorten an open log to its last whole line."""
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        return
    stream.seek(size - 1)
    if stream.read(1) == b"\n":
        return
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    """`value` in words that JSON has: numbers, strings, lists, dicts."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
