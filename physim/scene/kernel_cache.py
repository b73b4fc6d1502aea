"""Where Warp keeps compiled kernels, and whether physim's are there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

PREFIX = "wp_physim_"


def quiet_warp() -> None:
    """Initialise Warp without its banner and, on a machine without a GPU, without its remark that there is none."""
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    with nullcontext() if shutil.which("nvidia-smi") else native_silence():
        wp.init()


@contextmanager
def native_silence() -> Iterator[None]:
    """Drop what native code writes to standard error; Python's own stream is flushed before."""
    sys.stderr.flush()
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(sink)
        os.close(kept)


def cache_folder() -> Path:
    """The folder of compiled kernels of this Warp version."""
    import warp as wp

    if wp.config.kernel_cache_dir is None:
        quiet_warp()
    return Path(str(wp.config.kernel_cache_dir))


def compiled() -> int:
    """How many of physim's kernel modules are compiled."""
    folder = cache_folder()
    return sum(1 for p in folder.glob(f"{PREFIX}*") if p.is_dir()) if folder.is_dir() else 0
