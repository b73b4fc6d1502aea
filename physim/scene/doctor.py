"""What this machine offers: device, versions, threads, memory, and whether the kernels are compiled already."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from physim import __version__
from physim.scene.kernel_cache import cache_folder, compiled

PACKAGES = ("warp-lang", "torch", "numpy", "pyvista", "trimesh", "pydantic", "av")


def examine() -> list[tuple[str, str]]:
    """Names and values, one line each."""
    return [
        ("physim", f"{__version__} in {Path(__file__).resolve().parent.parent}"),
        ("python", f"{sys.version.split()[0]}, {platform.system()} {platform.machine()}"),
        *[(name, installed(name)) for name in PACKAGES],
        ("device", device()),
        ("threads", threads()),
        ("memory", memory()),
        ("kernel cache", cache()),
        ("video", "mp4 through PyAV" if installed("av") != "missing" else "no PyAV: pictures only"),
    ]


def installed(name: str) -> str:
    """Version of a package, or `missing`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def device() -> str:
    """The processors that can run a scene."""
    import torch

    if torch.cuda.is_available():
        names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
        return "cpu, " + ", ".join(names)
    return "cpu (no CUDA device found; everything runs without one)"


def threads() -> str:
    """Cores that this process may use, and torch's threads."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} cores for this process, {torch.get_num_threads()} torch threads"


def memory() -> str:
    """Free and total memory of the processors; what a rollout with gradients may hold follows from it."""
    import torch

    from physim.sim.sizes import machine_memory

    told = []
    total, free = (machine_memory(key) for key in ("MemTotal", "MemAvailable"))
    if total:
        told.append(f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        told.append(f"cuda:{i} {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    return ", ".join(told) or "unknown on this system"


def cache() -> str:
    """State of the kernel cache."""
    count, folder = compiled(), cache_folder()
    free = shutil.disk_usage(folder if folder.is_dir() else Path.home()).free / 2**30
    if count == 0:
        return f"cold: the first run compiles for a minute or two ({folder}, {free:.0f} GiB free)"
    return f"{count} compiled modules ({folder}, {free:.0f} GiB free)"
