"""The benchmark of scale runs on tiny sizes, and writes its table and picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_axis_runs_and_is_drawn(tmp_path: Path) -> None:
    file, picture = tmp_path / "scale.json", tmp_path / "scale.png"
    command = [sys.executable, "-m", "tools.bench.scale", "--quick", "--repeats", "1"]
    command += ["--json", str(file), "--plot", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert picture.stat().st_size > 5000
    for axis in ("box", "particles", "substeps", "worlds", "threads"):
        assert found[axis] and all(r["forward_ns"] > 0 and r["gradient_ns"] > 0 for r in found[axis])
    near, _, apart = found["box"]
    assert apart["active_nodes"] < 1.5 * near["active_nodes"]
    one, two = found["worlds"]
    assert two["particles"] == 2 * one["particles"]
