"""The memory benchmark runs, and its figures belong together; nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_peaks_bounds_and_overheads(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    command = [sys.executable, "-m", "tools.bench.memory", "--particles", "1000", "--substeps", "40", "--threads", "1"]
    command += ["--overhead", "30", "--repeats", "1", "--memory", "2 MiB", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    (peak,), (overhead,) = found["peaks"], found["overheads"]
    assert peak["substeps"] == 40 and peak["bound"] > 0 and peak["passes"] > 1 and str(peak["segments"]) in done.stdout
    assert overhead["least"]["passes"] > 1 and overhead["least"]["gradient_off"] < 1e-2
    assert overhead["least"]["bound"] < overhead["everything"]
