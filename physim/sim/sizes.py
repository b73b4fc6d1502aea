"""Amounts of memory: read from text such as `2 GiB`, written for people, and what a device has free."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import torch

from physim.errors import InputError

UNITS = {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_AMOUNT = re.compile(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*([A-Za-z]*)\s*")
_CGROUP = Path("/sys/fs/cgroup")


def in_bytes(value: str | int | float) -> float:
    """An amount of memory [bytes]: a number, or text with a unit such as `512 MiB`, `2GiB` or `1.5 GB`.

    Raises:
        InputError: no amount above zero, or an unknown unit.
    """
    if isinstance(value, str):
        found = _AMOUNT.fullmatch(value)
        units = {u.lower(): f for u, f in UNITS.items()}
        unit = found.group(2).lower() if found else ""
        amount = float(found.group(1)) * units[unit] if found and unit in units else math.nan
    else:
        amount = float(value)
    if not 0 < amount < math.inf:
        raise InputError(
            f"memory must be a number of bytes above zero, such an amount with a unit ({', '.join(list(UNITS)[1:])}), "
            f"or 'auto', got {value!r}. Examples: '2 GiB', '512 MiB', 1e9."
        )
    return amount


def written(amount: float) -> str:
    """An amount of memory [bytes] for people."""
    for unit in ("GiB", "MiB", "KiB"):
        if amount >= UNITS[unit]:
            return (
                f"{amount / UNITS[unit]:.3g} {unit}"
                if amount < 1000 * UNITS[unit]
                else f"{amount / UNITS[unit]:,.0f} {unit}"
            )
    return f"{amount:.0f} bytes"


def free_memory(device: torch.device) -> float:
    """Memory [bytes] that this process could still take on a device; zero where the system does not tell."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + idle)
    available = machine_memory("MemAvailable") or _installed()
    limit = _container_limit()
    return min(available, limit) if limit is not None else available


def machine_memory(key: str) -> int:
    """A line of Linux's memory table [bytes]; zero on other systems."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _installed() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 0.0


def _container_limit() -> float | None:
    """What a container's limit leaves [bytes]; None without a limit. Files that are only cached do not count."""
    try:
        limit = float((_CGROUP / "memory.max").read_text())
        used = float((_CGROUP / "memory.current").read_text())
        table = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return max(0.0, limit - used + float(table["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return None
