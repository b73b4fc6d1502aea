from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fit_killed import KEY, stages
from fit_toys import Oscillator

from physim.errors import FitError
from physim.fit.checkpoint import CheckpointStore, pack, unpack
from physim.fit.loop import Position, run_fit

HERE = Path(__file__).parent


def interrupted(folder: Path, method: str, kill_after: int) -> None:
    env = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "fit_killed.py"), str(folder), method, str(kill_after)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture(scope="module")
def gauss_newton_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    interrupted(folder, "gauss_newton", 4)
    return folder


def run(folder, method, **options):
    problem = Oscillator()
    starts = [problem.space.factored(f) for f in (0.5, 2.0)]
    return run_fit(problem, stages(method), starts, store=CheckpointStore(folder), key=KEY, **options)


def same(a, b):
    assert a.history == b.history
    for x, y in zip(a.finished, b.finished, strict=True):
        assert torch.equal(x.raw, y.raw) and x.loss == y.loss and x.stop == y.stop


@pytest.mark.parametrize(("method", "kill_after"), [("gauss_newton", 9), ("adam", 9), ("lbfgs", 3)])
def test_resumed_after_sigkill_is_bit_identical(tmp_path, method, kill_after):
    interrupted(tmp_path / "killed", method, kill_after)
    resumed = run(tmp_path / "killed", method, resume=True)
    whole = run(tmp_path / "whole", method)
    same(resumed, whole)
    assert len(whole.history) > kill_after


def test_resume_at_every_iteration(tmp_path):
    whole = run(tmp_path / "whole", "gauss_newton")

    class Enough(Exception):
        pass

    for stop_after in range(1, len(whole.history)):
        folder, seen = tmp_path / str(stop_after), []

        def listen(record, seen=seen, stop_after=stop_after):
            seen.append(record)
            if len(seen) == stop_after:
                raise Enough

        with pytest.raises(Enough):
            run(folder, "gauss_newton", listen=listen)
        same(run(folder, "gauss_newton", resume=True), whole)


def test_truncated_checkpoint_falls_back(tmp_path, gauss_newton_killed):
    for path in gauss_newton_killed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    store = CheckpointStore(tmp_path)
    newest = store.path(store.numbers()[-1])
    newest.write_bytes(newest.read_bytes()[:-37])
    tree, notes = store.newest()
    assert len(notes) == 1 and "cut short" in notes[0] and newest.name in notes[0]
    assert len(Position.of(tree["position"]).history) == 3
    same(run(tmp_path, "gauss_newton", resume=True), run(tmp_path / "whole", "gauss_newton"))
    for number in store.numbers():
        store.path(number).write_bytes(b"\x01\x02")
    with pytest.raises(FitError, match=r"no checkpoint in .* can be read.*without --resume"):
        store.newest()


def test_other_problem_and_other_files_are_refused(tmp_path, gauss_newton_killed):
    problem = Oscillator()
    store = CheckpointStore(gauss_newton_killed)
    other = {"the scene": "toy", "the file data.tip.file": "1"}
    with pytest.raises(FitError, match=r"changed since: the file data\.tip\.file\."):
        run_fit(problem, stages("adam"), [problem.space.start()], store=store, key=other, resume=True)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(FitError, match="no checkpoint of a fit"):
        unpack(tmp_path / "weights.safetensors")
    assert CheckpointStore(tmp_path / "none").newest() is None


def test_trees_survive(tmp_path):
    tree = {
        "a": torch.arange(3),
        "b": [1, 2.5, None, "x", True, (torch.tensor(0.1, dtype=torch.float64),)],
        3: {},
    }
    tree["inf"] = float("inf")
    (tmp_path / "t").write_bytes(pack(tree))
    back = unpack(tmp_path / "t")
    assert back["b"][:5] == tree["b"][:5] and torch.equal(back["b"][5][0], tree["b"][5][0])
    assert torch.equal(back["a"], tree["a"]) and back[3] == {} and back["inf"] == float("inf")
    with pytest.raises(FitError, match="cannot hold a set"):
        pack({"a": {1, 2}})


def test_only_a_few_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for i in range(5):
        store.save({"i": i})
    assert store.numbers() == [3, 4] and store.newest()[0] == {"i": 4}
