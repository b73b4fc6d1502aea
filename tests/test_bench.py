"""Every program of the benchmark against float64 on one small case; nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.bench.measure import PROGRAMS, Judge

JUDGE = Judge()
# Taichi compiles for minutes, and then for nothing that the others do not show.
HERE = [n for n, p in PROGRAMS.items() if n != "taichi" and not p.missing()]


@pytest.mark.parametrize("scene", ["jelly", "water"])
@pytest.mark.parametrize("name", HERE)
def test_agrees_with_float64(name: str, scene: str) -> None:
    """From F = I and from a strained start; and in free fall, where F = I all the way and `wp.svd3` is wrong."""
    threads = 2 if name in ("physim", "cpp") else 1
    for start in ("moving", "strained"):
        found = JUDGE.errors(name, scene, threads, start)
        assert max(found.mean, found.loss, found.forward) < 1e-6, (start, found)
        assert found.dv0 < 1e-5 and found.dE < 1e-3, (start, found)
        if start == "moving":
            # Should wp.svd3 come to have the right adjoint, the note beside its row can go.
            assert found.falling > 1e-3 if (name, scene) == ("warp_tape", "jelly") else found.falling < 1e-5


def test_the_command_writes_its_rows(tmp_path: Path) -> None:
    file, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    command = [sys.executable, "-m", "tools.bench", "--quick", "--programs", "physim", "warp_tape"]
    command += ["--json", str(file), "--plot", str(picture), "--seconds", "0.02"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warp_tape" in done.stdout and "commit" in done.stdout
    written = json.loads(file.read_text())
    rows = {r["program"]: r for r in written["rows"]}
    assert rows["warp_tape"]["gradient_ratio"] == rows["physim"]["gradient"] / rows["warp_tape"]["gradient"]
    assert written["machine"]["versions"]["torch"] and picture.stat().st_size > 1000


def test_a_program_that_fails_leaves_the_others_their_rows() -> None:
    from tools.bench.case import Case
    from tools.bench.measure import Config, measure
    from tools.bench.report import rows, table

    class Runner:
        def __init__(self, breaks: bool) -> None:
            self.breaks = breaks

        def forward(self, substeps: int) -> None:
            sum(range(100 * substeps))

        def gradient(self, substeps: int) -> None:
            if self.breaks:
                raise RuntimeError("first line\nout of luck")

    case = Case("jelly", 8)
    found = [Config(n, case, 1, Runner(n == "torch")) for n in ("physim", "torch")]  # type: ignore[arg-type]
    measure(found, 2, 0.001, lambda _: None)
    made = rows(found, ["physim", "torch"], [1], ("jelly", 8))
    assert made[0]["forward"] > 0
    assert made[1]["why"] == "failed: out of luck"
    assert table(made, {}).row_count == 2
