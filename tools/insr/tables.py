"""Plain tables, and figures beside what is required of them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def machine() -> str:
    """Processor, torch and commit, in one line."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    try:
        commit = subprocess.run(
            ("git", "rev-parse", "--short", "HEAD"), cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} thread(s){load}; torch "
        f"{torch.__version__}, commit {commit}. CPU is processor time."
    )


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in columns, as Markdown."""
    wide = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}\n")
    for k, row in enumerate((head, *rows)):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, wide, strict=True)) + " |")
        if k == 0:
            print("|" + "|".join("-" * (w + 2) for w in wide) + "|")
    print(flush=True)


def judged(what: str, found: float, required: float, aim: float | None = None, *, least: bool = False) -> str:
    """A figure beside the one required, which it must not exceed (or, with `least`, must reach)."""

    def reached(limit: float) -> bool:
        return found >= limit if least else found <= limit

    sign = ">=" if least else "<="
    told = "met" if reached(required) else "NOT MET"
    if aim is not None:
        told += f"; aim {sign} {aim:.2g} " + ("met" if reached(aim) else "not met")
    return f"{what}: {found:.2g}, required {sign} {required:.2g} {told}"
