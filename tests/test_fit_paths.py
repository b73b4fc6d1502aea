"""Tables in time in a scene: recovered constants, rates, VHB 4910 at two rates, and what is wrong with an entry."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch

from physim.fit.run import fit_scene, make_problem
from physim.laws import Material
from physim.laws.neural import neural_maxwell
from physim.laws.paths import path_stress
from physim.scene.loader import load_scene
from physim.scene.problems import SceneError
from physim.scene.schema import scene_schema

torch.set_num_threads(1)

DATA = Path(os.environ.get("PHYSIM_DATA", Path(__file__).parents[2] / "shared" / "data")) / "vhb4910"
SCENE = """
title: A gum that was made up
solver: none
materials:
  gum:
    law: neo_hookean
    mu: 20 kPa
    lam: 1 GPa
    inelastic: {law: maxwell_1, branch_modulus_1: 20 kPa, relaxation_time_1: 5 s}
tables:
  slow: {test: uniaxial, material: gum, data: slow, rate: 0.01/s}
  fast: {test: uniaxial, material: gum, data: fast, time: t, role: holdout}
fit:
  iterations: 15
  parameters:
    materials.gum.mu: {}
    materials.gum.inelastic.branch_modulus_1: {}
    materials.gum.inelastic.relaxation_time_1: {}
data:
"""
TRUTH = {"mu": 1e4, "lam": 1e9, "branch_modulus_1": 3e4, "relaxation_time_1": 20.0}


def made_up() -> str:
    """The scene with stresses at 0.01/s and 0.03/s."""
    stretch = torch.cat([torch.linspace(1.0, 1.6, 7), torch.linspace(1.5, 1.2, 4)]).double()
    material = Material("neo_hookean", None, "maxwell_1", rho0=1e3, values=TRUTH)
    time = torch.cat([torch.zeros(1), stretch.diff().abs().cumsum(0)]).double() / 0.01
    slow, fast = (path_stress(material, "uniaxial", stretch, t) for t in (time, time / 3.0))
    text = SCENE
    rows = ", ".join(f"[{s:.17g}, {p:.17g}]" for s, p in zip(stretch.tolist(), slow.tolist(), strict=True))
    text += f'  slow:\n    columns: {{stretch: "", stress: Pa}}\n    rows: [{rows}]\n'
    triples = zip((time / 3.0).tolist(), stretch.tolist(), fast.tolist(), strict=True)
    rows = ", ".join(f"[{t:.17g}, {s:.17g}, {p:.17g}]" for t, s, p in triples)
    return text + f'  fast:\n    columns: {{t: s, stretch: "", stress: Pa}}\n    rows: [{rows}]\n'


def test_branches_are_found_at_one_rate_and_hold_at_another(tmp_path):
    path = tmp_path / "gum.yaml"
    path.write_text(made_up())
    result = fit_scene(path, out=None, quiet=True)
    found = {name.rpartition(".")[2]: value for name, value in result.values.items()}
    for name in ("mu", "branch_modulus_1", "relaxation_time_1"):
        assert found[name] == pytest.approx(TRUTH[name], rel=1e-4)
    roles = {s.name: (s.role, s.r2) for s in result.scores}
    assert roles["fast"][0] == "held out" and roles["fast"][1] > 1.0 - 1e-6


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("rate: 0.01/s", "rate: 0.01 s", "expected a rate (1/s)"),
        ("rate: 0.01/s", "rate: -1/s", "must be greater than 0 1/s"),
        ("time: t", "time: t, rate: 1/s", "both a `time` column and a `rate`"),
        ("time: t", "time: time", "no column 'time'"),
        ("time: t", "time: stress, stress: stress", "tables.fast.time: expected a time (s); the column 'stress' is"),
        ("rows: [[0, ", "rows: [[5000, ", "must not fall: row 2"),
        ("rows: [[0, ", "rows: [[-1, ", "begins at -1 s"),
    ],
)
def test_a_wrong_clock_is_told_with_its_line(tmp_path, old, new, told):
    path, text = tmp_path / "gum.yaml", made_up()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SceneError) as error:
        load_scene(path)
    assert told in str(error.value) and "gum.yaml:" in str(error.value) and "tables." in str(error.value)


def test_more_branches_have_names_of_their_own(tmp_path):
    branches = ", ".join(f"branch_modulus_{i}: 10 kPa, relaxation_time_{i}: {10**i} s" for i in range(1, 5))
    law = f"{{law: neural_maxwell, network: {{branches: 4}}, {branches}}}"
    text = made_up().replace(
        "inelastic: {law: maxwell_1, branch_modulus_1: 20 kPa, relaxation_time_1: 5 s}", "inelastic: " + law
    )
    path = tmp_path / "gum.yaml"
    path.write_text(text.replace("relaxation_time_1: {}", "network: {}"))
    problem = make_problem(load_scene(path))
    raw = problem.space.start().requires_grad_()
    (slope,) = torch.autograd.grad(problem.predict("slow", raw)[0].objective().square().sum(), raw)
    assert bool((slope[2:] != 0.0).any()) and bool(torch.isfinite(slope).all())
    assert float(torch.linalg.det(problem.deformations("slow", raw)).sub(1.0).abs().max()) < 1e-12
    path.write_text(text.replace("branches: 4", "branches: 3"))
    with pytest.raises(SceneError, match="branch_modulus_4"):
        load_scene(path)
    entry = scene_schema()["$defs"]["MaterialPart"]["properties"]["inelastic"]["anyOf"][1]["properties"]
    assert "relaxation_time_6" in entry and "branches" in entry["network"]["anyOf"][1]["properties"]


def record(name: str) -> torch.Tensor:
    """Time [s], stretch [-] and nominal stress [Pa] of a test, (m, 3)."""
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"needs {path} (set PHYSIM_DATA)")
    rows = list(csv.reader(line for line in path.read_text().splitlines() if not line.startswith("#")))
    return torch.tensor([[float(c) for c in r] for r in rows[1:]], dtype=torch.float64) * torch.tensor([1.0, 1.0, 1e3])


@pytest.mark.parametrize("test", ["cyclic_0d03_1d5", "cyclic_0d03_3d0", "relaxation_2d5"])
def test_vhb_at_other_rates_with_constants_of_one(test):
    """Branches and one number of how strain hastens them, fitted at 0.01/s, in whole records at 0.03/s and held."""
    moduli, times = (38.2e3, 6.84e3, 18.0e3, 2.11e3, 11.3e3), (0.6, 3.0, 12.0, 50.0, 200.0)
    values = {"mu": 14.7e3, "lam": 1e9}
    for i, (modulus, time) in enumerate(zip(moduli, times, strict=True), start=1):
        values |= {f"branch_modulus_{i}": modulus, f"relaxation_time_{i}": time}
    material = Material("neo_hookean", None, neural_maxwell(1, 5), rho0=1e3, values=values)
    weights = material.inelastic_network
    # A unit with a large bias is straight: the rate grows as (1 + K1)^0.54.
    for weight, number in ((weights.bias, 15.0), (weights.inner, 1.0), (weights.outer, 0.538)):
        weight.data.fill_(number)
    time, stretch, stress = record(test).unbind(1)
    error = path_stress(material, "uniaxial", stretch, time) - stress
    r2 = float(1.0 - error.square().sum() / (stress - stress.mean()).square().sum())
    assert r2 > (0.94 if "relaxation" in test else 0.99), r2
