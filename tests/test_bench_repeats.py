"""The benchmark of repeats: equal bits are found equal, others are not, and the cost is a ratio of times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.bench import repeats
from tools.bench.program_physim import Run


@pytest.mark.parametrize("scene", list(repeats.SCENES))
def test_bits_are_equal_for_one_and_two_threads(scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real process takes seconds to start; the test of the command has one.
    monkeypatch.setattr(repeats, "in_another_process", lambda *given: repeats.Repeats(*given).fingerprint())
    first = repeats.repeated(scene, 1000, 1, None)
    second = repeats.repeated(scene, 1000, 2, first)
    assert first.equal and second.equal, (first, second)


def test_one_bit_makes_another_fingerprint() -> None:
    a = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    b = a.clone()
    b[1, 2] = torch.nextafter(b[1, 2], torch.tensor(torch.inf))
    assert repeats.hashed([a, a.sum()]) == repeats.hashed([a.clone(), a.sum()]) != repeats.hashed([b, a.sum()])


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "in_another_process", lambda *given: ("0", "0"))
    row = repeats.repeated("jelly", 200, 1, None)
    assert not row.equal and [way for way, same in row.same.items() if not same] == ["another process"]


def test_one_slab_is_one_slab() -> None:
    case = repeats.case_of("jelly", 8000)
    several, one = Run(case, 1), repeats.with_one_slab(Run(case, 1))
    slabs = []
    for run in (several, one):
        run.forward(1)
        work = run.solver._workspace(run.start())
        assert work.layout is not None
        slabs.append(work.layout.slabs)
    assert slabs[0] >= 2 and slabs[1] == 1


def test_the_command_writes_rows_and_costs(tmp_path: Path) -> None:
    file = tmp_path / "repeats.json"
    command = [sys.executable, "-m", "tools.bench.repeats", "--scenes", "jelly", "--particles", "200", "--threads", "1"]
    command += ["--repeats", "1", "--seconds", "0.01", "--json", str(file)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(file.read_text())
    assert [r["like_first"] for r in written["repeats"]] == [True]
    assert {c["kind"] for c in written["cost"]} == {"forward", "gradient"} and all(
        c["ratio"] > 0 for c in written["cost"]
    )
