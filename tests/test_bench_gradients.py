"""The benchmark of gradients: its reference is right and independent, and it finds a wrong adjoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from physim.numeric import Numeric
from physim.tensor import exp_sym, log_strain, polar_rotation
from tools.bench import gradient_errors
from tools.bench.gradient_errors import BARS, compare, gradients
from tools.bench.gradient_scenes import SCENES, Setup
from tools.bench.plain_laws import by_hand, plain, plain_laws


def test_plain_functions_are_the_same_functions() -> None:
    draw = torch.Generator().manual_seed(2)
    for size in (0.0, 1e-3, 0.15):
        F = torch.eye(3, dtype=torch.float64) + size * torch.randn(3, 3, generator=draw, dtype=torch.float64)
        for function, given in ((polar_rotation, F), (log_strain, F), (exp_sym, 2 * (F + F.mT - 2 * torch.eye(3)))):
            assert torch.allclose(plain(function)(given), function(given), rtol=0, atol=1e-13), function.name


def test_plain_laws_call_nothing_with_a_hand_written_adjoint() -> None:
    """Down to the last function that they call."""

    def check(function: Numeric) -> None:
        assert function._adjoint is None, function.name
        for name in function.source.__code__.co_names:
            called = function.source.__globals__.get(name)
            if isinstance(called, Numeric):
                check(called)

    found = set()
    for scene in SCENES.values():
        for piece in scene.pieces:
            laws = piece.material(8).laws
            found |= set(by_hand(laws))
            made = plain_laws(laws)
            assert made.name != laws.name and made.names == laws.names and not by_hand(made)
            check(made.elastic.kirchhoff)
            for more in (made.viscous and made.viscous.kirchhoff, made.inelastic and made.inelastic.project):
                if more:
                    check(more)
    assert found == {"fixed_corotated_kirchhoff", "log_strain", "exp_sym"}


def test_a_scene_within_its_bars() -> None:
    rows = compare("contact", differences=False)
    assert not [(r.by, r.errors) for r in rows if r.bad]
    assert {"x0", "v0", "gravity", "collider velocity", "collider spin", "E", "nu"} <= {r.by for r in rows}
    assert all(r.size > 0 and r.errors["generated_64"] < 1e-12 for r in rows)


def test_a_wrong_gradient_is_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(setup: Setup, make: gradient_errors.Make) -> gradient_errors.Gradients:
        found = gradients(setup, make)
        if make is gradient_errors.fast:
            found["E"] = (1 + 3 * BARS["float64_32"]) * found["E"]
        return found

    monkeypatch.setattr(gradient_errors, "gradients", wrong)
    bad = {r.by: r.bad for r in compare("contact", differences=False) if r.bad}
    assert bad == {"E": ["generated_64", "generated_32"]}


def test_differences_do_not_look_at_the_gradient() -> None:
    """The slope of a smooth loss, by a parameter, from the loss alone."""
    setup = SCENES["contact"].set_up(torch.float64)
    exact = gradients(setup, gradient_errors.fast)["nu"]
    name, slope = next((n, s) for n, s in gradient_errors.slopes(setup, names=("nu",)))
    assert name == "nu"
    assert abs(float((exact * slope.direction).sum()) - slope.value) < 1e-7 * abs(slope.value)


def test_the_command_writes_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "gradients.json"
    command = [sys.executable, "-m", "tools.bench.gradients", "--quick", "--scenes", "contact", "--json", str(file)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fixed_corotated_kirchhoff" in done.stdout and "Richardson" in done.stdout
    written = json.loads(file.read_text())
    assert written["bars"] == BARS and {r["scene"] for r in written["rows"]} == {"contact"}
