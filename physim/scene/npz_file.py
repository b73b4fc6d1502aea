"""Arrays by name in one .npz file: read without executing anything, written whole or not at all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.scene.document import display
from physim.scene.rundir import write_atomic

Arrays = dict[str, np.ndarray[Any, Any]]

# Arrays larger than this are not made of a video [bytes]: the machine of a reader is a laptop.
_MOST = 2 << 30


def read_npz(path: Path) -> Arrays:
    """All arrays of a file that `numpy.savez` wrote.

    Raises:
        InputError: not such a file, or one that holds Python objects.
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                told = "one array without a name; write it with numpy.savez(path, name=array)"
                raise InputError(f"{display(path)}: {told}.")
            with file:
                return {name: file[name] for name in file.files}
    except ValueError as error:
        raise InputError(
            f"{display(path)}: holds what is no plain array ({error}); write arrays of numbers with numpy.savez."
        ) from None
    except (OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise InputError(f"{display(path)}: cannot be read as .npz ({error}); it may have been cut short.") from None


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write arrays, compressed.

    Raises:
        InputError: the name does not end in .npz, or the file cannot be written.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: the name of a file of arrays ends in .npz.")
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, stream.getvalue())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place with --out.") from None
    return path


def check_bytes(name: str, frames: int, size: tuple[int, int], bytes_: int) -> None:
    """Raise `InputError` where so many frames of width and height [px] would not fit into memory."""
    if frames * size[0] * size[1] * bytes_ > _MOST:
        gigabytes = frames * size[0] * size[1] * bytes_ / 1e9
        raise InputError(
            f"{name}: {frames} frames of {size[0]} x {size[1]} pixels are {gigabytes:.1f} GB; take fewer (begin, end, "
            "every), or smaller ones (largest, such as 640)."
        )


def check_clock(name: str, times: np.ndarray[Any, Any], count: int) -> None:
    """Raise `InputError` unless there is one time [s] for each of so many frames, each later than the one before."""
    if times.shape != (count,) or times.dtype.kind not in "fui" or not np.isfinite(times).all():
        raise InputError(f"{name}: times have shape {times.shape}, expected ({count},), one number [s] for each frame.")
    late = np.flatnonzero(np.diff(times) <= 0)
    if len(late):
        i = int(late[0])
        told = f"frames {i} and {i + 1} are both at {times[i]:.6g} s"
        if times[i] != times[i + 1]:
            told = f"frame {i + 1} is at {times[i + 1]:.6g} s, after one at {times[i]:.6g} s"
        raise InputError(f"{name}: times must increase, and {told}; leave one of them out, or correct its time.")
