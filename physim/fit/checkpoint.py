"""Checkpoints: everything a fit needs to go on, in one atomic safetensors file per save."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from physim.errors import FitError
from physim.scene.rundir import write_atomic
from physim.trees import flatten, rebuild

FORMAT = "physim-fit-3"
_NAME = re.compile(r"checkpoint_(\d{6})\.safetensors")


class CheckpointStore:
    """Numbered checkpoints in one folder; the newest few are kept.

    Args:
        folder: where they lie; created on the first save.
        keep: how many are kept.
    """

    def __init__(self, folder: str | Path, *, keep: int = 3) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def numbers(self) -> list[int]:
        """Numbers of the checkpoints present, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(p.name) for p in self.folder.iterdir())
        return sorted(int(m.group(1)) for m in found if m)

    def path(self, number: int) -> Path:
        """File of one checkpoint."""
        return self.folder / f"checkpoint_{number:06d}.safetensors"

    def save(self, tree: dict[str, Any]) -> Path:
        """Write the next checkpoint whole or not at all, then remove the oldest beyond `keep`."""
        numbers = self.numbers()
        path = self.path(numbers[-1] + 1 if numbers else 0)
        write_atomic(path, pack(tree))
        for old in numbers[: max(0, len(numbers) + 1 - self.keep)]:
            self.path(old).unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[dict[str, Any], list[str]] | None:
        """The newest readable checkpoint and a sentence for each unreadable one passed over; None without any.

        Raises:
            FitError: there are checkpoints and none can be read.
        """
        numbers = self.numbers()
        notes: list[str] = []
        for number in reversed(numbers):
            try:
                return unpack(self.path(number)), notes
            except FitError as error:
                notes.append(str(error))
        if not numbers:
            return None
        raise FitError(f"no checkpoint in {self.folder} can be read: {' '.join(notes)} Start again without --resume.")


def pack(tree: dict[str, Any]) -> bytes:
    """A nested dict of tensors, numbers, strings, lists and None as the bytes of a safetensors file.

    Raises:
        FitError: it holds something else.
    """
    tensors: dict[str, Tensor] = {}
    try:
        plan = flatten(tree, tensors)
    except TypeError as error:
        raise FitError(f"a checkpoint {error}.") from None
    return save(tensors, metadata={"format": FORMAT, "tree": json.dumps(plan)})


def unpack(path: str | Path) -> dict[str, Any]:
    """The dict that `pack` wrote.

    Raises:
        FitError: the file is missing, cut short, or of another format.
    """
    try:
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    except (SafetensorError, OSError) as error:
        raise FitError(f"the checkpoint {path} cannot be read ({error}); it may have been cut short.") from None
    if metadata.get("format") != FORMAT:
        raise FitError(f"{path} is no checkpoint of a fit (format {metadata.get('format')!r}, expected {FORMAT!r}).")
    return rebuild(json.loads(metadata["tree"]), tensors)
