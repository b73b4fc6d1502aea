"""Several ranks: the same answers as one, failures that all hear of, and checkpoints that do not care how many."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fit_scenes import bounce
from ranks_program import FITS, SHORTER, Enough, fit, interrupted

from physim.errors import InputError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.run import fit_scene
from physim.parallel import ALONE, Ranks, ranks
from physim.parallel import _device as place

torch.set_num_threads(1)

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "ranks.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two ranks leave behind."""
    folder = tmp_path_factory.mktemp("ranks")
    bounce(folder)
    with pytest.raises(Enough):
        interrupted(folder / "alone", 9)
    (folder / "example.py").write_text(re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL).group(1))
    env = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = [str(HERE / "ranks_program.py"), str(folder)]
    done = subprocess.run([*command, *program], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def both(folder):
    return [json.loads((folder / f"rank_{k}.json").read_text()) for k in (0, 1)]


def close(a, b):
    """Equal within 1e-10, relative."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return a == pytest.approx(b, rel=1e-10, abs=1e-300)
    return a == b


@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_that_of_one_rank(both, name):
    assert both[0]["fits"][name] == both[1]["fits"][name]
    assert close(both[0]["fits"][name], fit(name, threads=1))


def test_a_scene_is_fitted_as_by_one_rank(both, folder):
    alone = fit_scene(folder / "bounce.yaml", SHORTER, out=None, quiet=True)
    estimates = {e.name: [e.value, e.low, e.high] for e in alone.uncertainty.estimates}
    assert both[0]["scene"] == both[1]["scene"]
    assert close(both[0]["scene"]["estimates"], estimates)
    assert close(both[0]["scene"]["scores"], [s.rms for s in alone.scores])


def test_the_first_rank_alone_writes(both, folder):
    (made,) = (folder / "runs").iterdir()
    assert both[1]["scene"]["folder"] == str(made)
    assert {"result.json", "report.html", "log.jsonl", "checkpoints"} <= {p.name for p in made.iterdir()}
    events = [json.loads(line)["event"] for line in (made / "log.jsonl").read_text().splitlines()]
    assert events.count("end") == 1


def test_the_command_line_speaks_once(both, folder):
    (made,) = (folder / "cli").iterdir()
    codes, outs, errs = zip(*(r["cli"] for r in both), strict=True)
    # One iteration does not reach the tested number: both leave with 1, after the first has spoken.
    assert codes == (1, 1) and str(made) in outs[0] and outs[1] == errs[1] == ""
    assert both[0]["typo"] == [
        2,
        "",
        "error: rubber_trelor: no such file or shipped scene. Did you mean 'rubber_treloar'?\n",
    ]
    assert both[1]["typo"] == [2, "", ""]


def test_a_failure_on_one_rank_is_raised_on_all(both):
    first, second = (r["together"] for r in both)
    assert first["fit"] == "FitError: rank 1: it broke" and second["fit"] == "FitError: it broke"
    assert first["starts"] == "RankError: rank 1: ZeroDivisionError: division by zero"
    assert second["starts"] == "ZeroDivisionError: division by zero"
    assert first["lone"] == "InputError: rank 1: no such file" and second["lone"] == "InputError: no such file"
    for one in (first, second):
        assert "rank 1 comes with 3 results where 2 are its share" in one["parted"]
        assert "every rank must give the same tensors" in one["shapes"]
    assert both[0]["enough"] == "Enough: " and both[1]["enough"] == "RankError: rank 0: Enough: "


def test_a_rank_that_does_not_come_is_not_waited_for_for_ever(both):
    assert both[0]["late"].startswith("Lost: rank 0 waited 1 s for the other ranks; one of them hangs")


def test_a_fit_goes_on_with_another_number_of_ranks(both, folder):
    whole = both[0]["fits"]["five starts"]
    assert close(both[0]["resumed"], whole) and both[0]["resumed"] == both[1]["resumed"]
    assert close(fit("five starts", store=CheckpointStore(folder / "two"), resume=True), whole)


def test_shares_and_sums(both):
    assert [r["rank"] for r in both] == [0, 1]
    for one in both:
        assert one["size"] == 2 and one["threads"] == one["cores"]
        assert [row[0] for row in one["together"]["map"]] == [0, 1, 2, 3, 4]
        assert one["together"]["from_first"] == "rank 0"
        assert one["together"]["gradients"] == [[6.0, 8.0], [0.0, 0.0]]


def test_the_documented_example(both):
    assert both[0]["example"] == both[1]["example"] == pytest.approx(30e3, rel=0.02)


def test_alone():
    with ranks(device="cpu") as team:
        assert (team.rank, team.size, team.first) == (0, 1, True)
        assert team.map(lambda i: i + 1, [1, 2]) == [2, 3] and team.share([1, 2]) == [1, 2]
        total = torch.ones(2)
        team.reduce([total])
        assert total.tolist() == [1.0, 1.0]
        with pytest.raises(InputError, match="once"), team.together():
            raise InputError("once")
        with team.split(team.groups(3)) as (mine, group):
            assert mine == 0 and group is team
    with pytest.raises(InputError, match="device 'gpu' is unknown"), ranks(device="gpu"):
        pass


def test_groups_are_equal_and_no_more_than_asked():
    assert [Ranks(size=6).groups(n) for n in (0, 1, 2, 4, 5, 9)] == [1, 1, 2, 3, 3, 6]
    assert [Ranks(rank=k, size=3).share(range(7)) for k in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert ALONE.in_order([[1, 2]], 2) == [1, 2]


def test_without_a_gpu_cuda_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="torch finds no CUDA device"), ranks(device="cuda"):
        pass


def test_every_rank_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(place(None, 1, 2)) == str(place("cuda", 1, 2)) == "cuda:1"
    # More ranks than GPUs compute on the CPU, unless GPUs were asked for.
    assert str(place(None, 2, 3)) == "cpu"
    with pytest.raises(InputError, match="3 ranks on this machine, which has 2 GPUs"):
        place("cuda", 2, 3)
    with pytest.raises(InputError, match="'cuda:1' is a single GPU, and there are 2 ranks"):
        place("cuda:1", 0, 2)
    assert str(place("cuda:1", 0, 1)) == "cuda:1"
