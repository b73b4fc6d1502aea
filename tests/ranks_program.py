"""What test_ranks.py looks at: run by torchrun with a folder, in which each rank leaves what it found."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import time
from pathlib import Path

import torch
from fit_toys import Oscillator

from physim.cli import main
from physim.errors import FitError, InputError, PhysimError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.loop import run_fit
from physim.fit.run import fit_scene
from physim.fit.stage import Method, Stage
from physim.fit.uncertainty import assess
from physim.parallel import ALONE, Ranks, ranks

KEY = {"the scene": "toy"}
FITS = {
    "gauss_newton": (Method.GAUSS_NEWTON, (0.5,)),
    "adam": (Method.ADAM, (0.5,)),
    "lbfgs": (Method.LBFGS, (0.5,)),
    "five starts": (Method.GAUSS_NEWTON, (0.01, 0.5, 1.0, 2.0, 4.0)),
}

SHORTER = ("fit.starts=[0.7, 1]", "fit.iterations=3")


def stages(method: Method) -> tuple[Stage, ...]:
    return (Stage("early", method, end=1.0, iterations=6), Stage("all", method, iterations=8))


def fit(name: str, problem: Oscillator | None = None, **options) -> dict:
    problem = problem or Oscillator()
    method, factors = FITS[name]
    starts = [problem.space.factored(f) for f in factors]
    position = run_fit(problem, stages(method), starts, key=KEY, **options)
    return {
        "raw": [f.raw.tolist() for f in position.finished],
        "loss": [f.loss for f in position.finished],
        "stop": [f.stop for f in position.finished],
        "history": [{k: v for k, v in r.items() if k != "runs"} for r in position.history],
    }


class Enough(Exception):
    pass


def interrupted(folder: Path, after: int, team: Ranks = ALONE) -> None:
    """A fit of several starts that stops after so many iterations."""
    seen: list[dict] = []

    def listen(record: dict) -> None:
        seen.append(record)
        if len(seen) == after:
            raise Enough

    fit("five starts", store=CheckpointStore(folder), listen=listen, ranks=team)


class Failing(Oscillator):
    """Fails on one rank, in its third run."""

    def __init__(self, error: Exception, here: bool) -> None:
        super().__init__()
        self.error, self.here, self.count = error, here, 0

    def predict(self, recording, raw, *, end=None):
        self.count += 1
        if self.here and self.count == 3:
            raise self.error
        return super().predict(recording, raw, end=end)


def told(call) -> str:
    """Class and message of what a call raises."""
    try:
        call()
    except (PhysimError, ArithmeticError, Enough) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def together(team: Ranks) -> dict:
    """Failures and sums."""
    one = team.rank == 1

    def lone() -> None:
        with team.together():
            if one:
                raise InputError("no such file")
            # Where the others wait when it happens does not matter.
            team.map(lambda i: i, range(3))

    def parted() -> None:
        team.in_order(team.gather(lambda: [0] * (2 + one)), 4)

    found = {
        "fit": told(lambda: fit("gauss_newton", Failing(FitError("it broke"), one), ranks=team)),
        "starts": told(lambda: fit("five starts", Failing(ZeroDivisionError("division by zero"), one), ranks=team)),
        "lone": told(lone),
        "parted": told(parted),
        "shapes": told(lambda: team.reduce([torch.zeros(2 + one)])),
        "map": team.map(lambda i: (i, torch.tensor(0.1 * i), None), range(5)),
        "from_first": team.from_first(lambda: f"rank {team.rank}"),
    }
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    idle = torch.zeros(2, requires_grad=True)
    if one:
        (weight**2).sum().backward()
    team.reduce_gradients([weight, idle])
    found["gradients"] = [weight.grad.tolist(), idle.grad.tolist()]
    found["map"] = [[i, float(t), n] for i, t, n in found["map"]]
    return found


def scene(folder: Path, team: Ranks) -> dict:
    result = fit_scene(folder / "bounce.yaml", SHORTER, out=folder / "runs", ranks=team, quiet=True)
    estimates = {e.name: [e.value, e.low, e.high] for e in result.uncertainty.estimates}
    return {"estimates": estimates, "folder": str(result.folder), "scores": [s.rms for s in result.scores]}


def spoken(arguments: list[str]) -> list:
    """Exit code and what is printed."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    return [code, out.getvalue(), err.getvalue()]


def late() -> str:
    """What is said when a rank does not come."""
    with ranks(timeout=1.0, device="cpu") as team:
        if team.rank == 1:
            time.sleep(2.5)
            return ""
        return told(lambda: team.gather(lambda: 0))


def run(folder: Path) -> None:
    """Everything, in a fixed order."""
    with ranks(device="cpu", timeout=120.0) as team:
        found = {"size": team.size, "rank": team.rank, "cores": team.cores, "threads": torch.get_num_threads()}
        found["fits"] = {name: fit(name, ranks=team, threads=1) for name in FITS}
        found["resumed"] = fit("five starts", ranks=team, store=CheckpointStore(folder / "alone"), resume=True)
        found["enough"] = told(lambda: interrupted(folder / "two", 9, team))
        found["together"] = together(team)
        found["scene"] = scene(folder, team)
        problem = Oscillator()
        found["intervals"] = [e.low for e in assess(problem, problem.space.raw([4.0, 0.5])).estimates]
    found["cli"] = spoken(["fit", "rubber_treloar", "--set", "fit.iterations=1", "--out", str(folder / "cli")])
    found["typo"] = spoken(["fit", "rubber_trelor"])
    if (folder / "example.py").exists():
        found["example"] = runpy.run_path(str(folder / "example.py"))["found"]
    found["late"] = late()
    (folder / f"rank_{found['rank']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
