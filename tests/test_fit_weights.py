"""Weights of learned laws as things to fit: from tables and from motion."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fit_scenes import block
from fit_toys import Oscillator

from physim.errors import FitError
from physim.fit.attempt import make_optimiser
from physim.fit.block import Block
from physim.fit.checkpoint import CheckpointStore, unpack
from physim.fit.derivatives import left_out
from physim.fit.loop import run_fit
from physim.fit.problem import Objective
from physim.fit.run import fit_scene, make_problem
from physim.fit.settings import advice, make_stages, make_starts
from physim.fit.space import Quantity, Space
from physim.fit.stage import EarlyStop, Method, Stage
from physim.fit.uncertainty import laplace
from physim.laws import Material
from physim.laws.neural import neural_energy
from physim.laws.neural.flat import flat_weights, put_weights, with_weights
from physim.laws.tables import table_stress
from physim.observe.record import Comparison
from physim.scene.loader import load_scene
from physim.scene.materials import make_material, read_material_file
from physim.scene.problems import SceneError
from physim.scene.verify import visited

torch.set_num_threads(1)

TABLES = """
title: A rubber that was made up
solver: none
materials:
  rubber: {law: neural_energy, mu: 300 kPa, bulk_modulus: 1 GPa, network: {hidden: 3, convex: true}}
tables:
  pull: {test: uniaxial, material: rubber, data: pull}
  sheet: {test: equibiaxial, material: rubber, data: sheet}
  shear: {test: pure_shear, material: rubber, data: shear, role: holdout}
fit:
  parameters: {materials.rubber.mu: {}, materials.rubber.network: {}}
  iterations: 12
data:
"""
TESTS = {"pull": "uniaxial", "sheet": "equibiaxial", "shear": "pure_shear"}

FALL = (
    block("0.16 s", "{law: neural_energy, E: 20 kPa, nu: 0.3, density: 1000, network: {hidden: 4}}")
    + """
observe:
  corners: {kind: tracks, points: {a: [0.3, 0.5], b: [0.7, 0.5]}, axes: xy, data: corners, noise: 1 mm}
fit:
  parameters: {materials.jelly.E: {}, materials.jelly.network: {}}
  iterations: 16
  rate: 0.2
data:
"""
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A scene of tables whose stresses Yeoh's law made."""
    truth = Material("yeoh", rho0=1e3, values={"c1": 1.3e5, "c2": 2e3, "c3": 100.0, "bulk_modulus": 1e9})
    text = TABLES
    for name, test in TESTS.items():
        stretch = torch.linspace(1.1, 2.5, 8, dtype=torch.float64)
        stress = table_stress(truth, test, stretch).detach() / 1e3
        rows = ", ".join(f"[{a:.4f}, {b:.6f}]" for a, b in zip(stretch.tolist(), stress.tolist(), strict=True))
        text += f'  {name}: {{columns: {{stretch: "", stress: kPa}}, rows: [{rows}]}}\n'
    path = tmp_path_factory.mktemp("tables") / "rubber.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def fall(tmp_path_factory):
    """A scene of motion that a neo-Hookean block made."""
    path = tmp_path_factory.mktemp("fall") / "fall.yaml"
    times = np.linspace(0.02, 0.15, 10)

    def write(rows):
        lines = ", ".join(f"[{t:.4f}, {', '.join(f'{v:.7f}' for v in r)}]" for t, r in zip(times, rows, strict=True))
        columns = "{time: s, a.x: m, a.y: m, b.x: m, b.y: m}"
        path.write_text(FALL + f"  corners: {{columns: {columns}, rows: [{lines}]}}\n")

    write(np.zeros((10, 4)))
    scene = load_scene(
        path,
        [
            "materials.jelly={law: neo_hookean, E: 30 kPa, nu: 0.3, density: 1000}",
            "fit.parameters={materials.jelly.E: {}}",
        ],
    )
    problem = make_problem(scene)
    with torch.no_grad():
        (made,) = problem.predict("", problem.space.start())
    write(made.predicted.numpy())
    return path


@pytest.fixture(scope="module")
def result(tables, tmp_path_factory):
    return fit_scene(tables, out=tmp_path_factory.mktemp("runs"), quiet=True, threads=1)


class TestTables:
    def test_the_exact_jacobian_is_that_of_differences(self, tables):
        problem = make_problem(load_scene(tables))
        objective = Objective(problem, Stage(), problem.space.start())
        z = objective.start()
        J = objective.jacobian(z, z, 1e-4)
        g = torch.Generator().manual_seed(0)
        d = torch.randn(len(z), generator=g, dtype=torch.float64)
        above, below = objective.residuals([z + 1e-5 * d, z - 1e-5 * d])
        torch.testing.assert_close(J @ d, (above - below) / 2e-5, rtol=1e-6, atol=1e-8)

    def test_threads_do_not_see_the_weights_of_others(self, tables):
        problem = make_problem(load_scene(tables))
        start = problem.space.start()
        raws = [start + 0.1 * i for i in range(6)]
        alone = [problem.predict("pull", z)[0].predicted for z in raws]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda z: problem.predict("pull", z)[0].predicted, raws * 4))
        for i, found in enumerate(together):
            assert torch.equal(found, alone[i % 6])

    def test_learns_and_predicts_another_test(self, result):
        scores = {s.name: s for s in result.scores}
        first = result.position.history[0]["loss"]
        assert result.best.loss < 0.02 * first
        assert scores["pull"].relative < 0.02 and scores["shear"].role == "held out"
        assert scores["shear"].relative < 0.05

    def test_weights_are_told_as_one_thing(self, result, tables):
        data = json.loads((result.folder / "result.json").read_text())
        assert list(data["parameters"]) == ["materials.rubber.mu"] and len(data["correlation"]) == 1
        (told,) = data["weights"]
        assert told["count"] == 18 and told["moved"] > 0.0 and 0.0 < told["determined"] < 18.0
        text = (result.folder / "report.html").read_text()
        assert "18 weights" in text and "Band around" in text
        assert any("18 weights" in line for line in result.lines())
        assert (result.folder / "log.jsonl").read_text().count("weights_moved") == len(result.position.history)

    def test_material_points_to_the_trained_weights(self, result):
        spec = read_material_file(result.folder / "material.yaml")
        assert spec.network is not None and spec.network.file == result.folder / "material.safetensors"
        weights = result.space.weights(result.raw)["materials.rubber.network"]
        assert torch.equal(flat_weights(spec.network.module), weights)
        shear = next(c for c in result.comparisons if c.name == "shear")
        stress = table_stress(make_material(spec), "pure_shear", shear.at)
        torch.testing.assert_close(stress.detach(), shear.predicted[:, 0], rtol=1e-6, atol=0.0)
        reach = visited(spec)
        # Equibiaxial tension to 2.5: log stretches of (1, 1, -2) ln 2.5.
        assert reach.strain == pytest.approx(6**0.5 * np.log(2.5), rel=1e-3) and reach.volume == (1.0, 1.0)
        assert spec.learned.misfit < 0.02 and "rubber.yaml" in spec.learned.source

    def test_bands_widen_where_nothing_was_measured(self, result):
        band = {c.name: c.band for c in result.comparisons}
        for c in result.comparisons:
            assert c.band is not None and bool(torch.isfinite(c.band).all()) and bool((c.band >= 0).all())
        assert float(band["sheet"].max()) < 0.2 * float(max(c.measured.max() for c in result.comparisons))

    def test_goes_on_where_it_was(self, tables, result, tmp_path):
        problem = make_problem(load_scene(tables))
        stages, starts, store = make_stages(load_scene(tables)), [problem.space.start()], CheckpointStore(tmp_path)
        run_fit(problem, stages, starts, threads=1, store=store)
        kept = CheckpointStore(tmp_path / "kept")
        kept.save(unpack(store.path(store.numbers()[0])))
        again = run_fit(problem, stages, starts, threads=1, store=kept, resume=True)
        assert torch.equal(again.finished[0].raw, result.raw)

    def test_other_starts_draw_anew(self, tables):
        scene = load_scene(tables, ["fit.starts=[1, 1]"])
        space = make_problem(scene).space
        first, second = make_starts(scene, space)
        rows = space.rows("materials.rubber.network")
        assert torch.equal(first[:1], second[:1]) and bool((first[rows] != second[rows]).any())

    def test_readable_terms(self, tables):
        changes = ["materials.rubber.law=cann", "materials.rubber.network={convex: false}", "fit.iterations=20"]
        result = fit_scene(tables, changes, out=None, quiet=True, threads=1)
        assert all(s.relative < 0.02 for s in result.scores)


class TestMotion:
    def test_gradient_is_that_of_differences(self, fall):
        problem = make_problem(load_scene(fall))
        objective = Objective(problem, Stage(), problem.space.start(), threads=1)
        z = objective.start()
        _, gradient = objective.value_and_gradient(z)
        d = torch.randn(len(z), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        r = objective.residuals([z + 1e-5 * d, z - 1e-5 * d])
        above, below = (0.5 * float(found @ found) for found in r)
        assert float(gradient @ d) == pytest.approx((above - below) / 2e-5, rel=1e-5)

    def test_training_lowers_the_loss(self, fall):
        result = fit_scene(fall, out=None, quiet=True, threads=1)
        losses = [r["loss"] for r in result.position.history]
        assert result.best.loss < 0.2 * losses[0]
        learned = result.learned["jelly"]
        assert 0.01 < learned.strain < 1.0 and learned.volume[0] < 1.0 <= learned.volume[1]

    def test_gradients_are_the_default(self, fall):
        scene = load_scene(fall)
        (stage,) = make_stages(scene)
        assert stage.method is Method.ADAM and not advice(scene)
        (told,) = advice(scene.changed(["fit.method=gauss_newton"]))
        assert "23 weights by simulation: 46 runs" in told
        big = scene.changed(["fit.method=gauss_newton", "materials.jelly.network={hidden: 20}"])
        with pytest.raises(FitError, match=r"would simulate \d+ runs for each Jacobian of 103 weights"):
            make_stages(big)
        named = ["fit.stages=[{method: gauss_newton, parameters: [materials.jelly.E]}, {name: all}]"]
        first, second = make_stages(big.changed(["fit.method=null", *named]))
        assert first.method is Method.GAUSS_NEWTON and first.iterations == 16 and second.method is Method.ADAM

    def test_many_weights_are_told_to_be_taken_as_known(self, fall, monkeypatch):
        monkeypatch.setattr("physim.fit.derivatives.MOST_WEIGHTS", 10)
        scene = load_scene(fall, ["fit.iterations=1"])
        result = fit_scene(scene, out=None, quiet=True, threads=1)
        assert left_out(make_problem(scene))
        assert any("take the 23 weights of materials.jelly.network as known" in w for w in result.warnings)
        assert all(c.band is None for c in result.comparisons) and np.isnan(result.uncertainty.weights[0].determined)


def test_intervals_hold_what_the_weights_leave_open():
    g = torch.Generator().manual_seed(0)
    space = Space((Quantity("a", "", 1.0),), (Block("w", torch.zeros(5, dtype=torch.float64), sd=0.5),))
    J = torch.randn(200, 6, generator=g, dtype=torch.float64)
    noise = torch.randn(200, 1, generator=g, dtype=torch.float64)
    ones = torch.ones(200, 1, dtype=torch.float64)
    yes = torch.ones(200, 1, dtype=torch.bool)
    c = Comparison("c", ("y",), "m", torch.arange(200.0), 0 * ones, noise, ones, yes, yes, None)
    found = laplace(space, space.start(), [c], [J[:, None, :]])
    exact = torch.linalg.inv(J.T @ J / float(noise.square().mean()) + torch.diag(torch.tensor([0.0, *[4.0] * 5])))
    assert float(found.covariance[0, 0]) == pytest.approx(float(exact[0, 0]), rel=0.1)
    alone = laplace(space, space.start(), [c], [J[:, None, :]], known=space.blocks)
    assert alone.left_out == ("w",) and found.weights[0].determined == pytest.approx(5.0, abs=0.2)
    # A direction that data cannot tell from the weights is wide, but not open: the prior holds the weights.
    J[:, 0] = J[:, 1]
    wide = laplace(space, space.start(), [c], [J[:, None, :]])
    assert float(wide.covariance[0, 0]) == pytest.approx(0.25, rel=0.2) and wide.open_directions.shape[1] == 0
    J[:, 0] = 0.0
    none = laplace(space, space.start(), [c], [J[:, None, :]])
    assert none.estimates[0].sd == float("inf") and none.open_directions.shape[1] == 1


def test_a_view_of_a_module_leaves_it_alone():
    network = neural_energy(hidden=3).network.make(0)
    before = flat_weights(network)
    flat = (before + 1.0).requires_grad_()
    named = torch.tensor([[1e5, 2e5]], dtype=torch.float64)
    (slope,) = torch.autograd.grad(with_weights(network, flat).columns(named).sum(), flat)
    assert torch.equal(flat_weights(network), before) and bool((slope != 0).any())
    columns = with_weights(network, flat).columns(named).detach()
    put_weights(network, flat.detach())
    torch.testing.assert_close(network.columns(named).detach(), columns)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("fit.parameters={materials.rubber.viscous.network: {}}", "this law has no network"),
        ("fit.parameters={materials.rubber.netwrk: {}}", "Did you mean 'network'"),
        ("fit.parameters={materials.rubber.network: {start: 3}}", "weights start where"),
        ("fit.parameters={materials.rubber.network: {prior: {value: 1, sd: 3}}}", "alone"),
        ("fit.parameters={materials.rubber.mu: {prior: {sd: 3 kPa}}}", "required, and missing"),
    ],
)
def test_what_cannot_be_said_of_weights(tables, change, told):
    with pytest.raises(SceneError, match=told):
        load_scene(tables, [change])


class TestStops:
    """A running mean of the points, and an end when what is not fitted gets no better."""

    def test_a_running_mean_beats_noisy_points(self):
        class Noisy(Oscillator):
            """Its loss jumps from point to point, so that Adam never settles."""

            def predict(self, recording, raw, *, end=None):
                shaken = raw + 0.05 * torch.sin(1e4 * raw.detach())
                return super().predict(recording, shaken, end=end)

        problem = Noisy()
        stage = Stage(method=Method.ADAM, iterations=60, rate=0.2, average=0.9)
        objective = Objective(problem, stage, problem.space.start(), threads=1)
        search = make_optimiser(stage, objective.start())
        points = [search.step(objective).z for _ in range(60)]
        weights = torch.zeros(60, dtype=torch.float64)
        for i in range(60):
            keep = min(0.9, i / (i + 1.0))
            weights = weights * keep
            weights[i] = 1.0 - keep
        torch.testing.assert_close(search.average, weights @ torch.stack(points))
        other = make_optimiser(stage, objective.start())
        other.restore(search.state())
        assert torch.equal(other.average, search.average)
        best = run_fit(problem, [stage], [problem.space.start()], threads=1).finished[0]
        assert best.loss <= min(objective.losses([search.average, *points]))

    def test_stops_where_the_held_out_part_is_best(self):
        class Split(Oscillator):
            """Recording b is held out, and wants another damping than a."""

            def __init__(self):
                super().__init__()
                self.recordings, self.held_recordings = ("a",), ("b",)
                self.data["b"] = self.tip("b", torch.tensor([5.0, 0.4], dtype=torch.float64))

        problem = Split()
        early = EarlyStop(recordings=("b",), every=2, patience=3)
        stage = Stage(method=Method.ADAM, iterations=80, rate=0.05, early=early)
        position = run_fit(problem, [stage], [problem.space.start()], threads=1)
        end, history = position.finished[0], position.history
        assert end.stop.startswith("stopped: what is not fitted") and len(history) < 80
        looks = [r["unfitted"] for r in history if "unfitted" in r]
        best = Objective(problem, stage, end.raw).unfitted([end.raw])[0]
        assert best == pytest.approx(min(looks)) and looks.index(min(looks)) == len(looks) - 4
        # What is looked at is not fitted: the loss goes on falling after the best look.
        assert history[-1]["loss"] < end.loss

    def test_a_tail_is_kept_out_of_the_fit(self, fall):
        scene = load_scene(fall, ["fit.early_stop={begin: 0.1 s, every: 1, patience: 1}", "fit.iterations=1"])
        problem = make_problem(scene)
        (c,) = problem.predict("", problem.space.start())
        assert torch.equal(c.fitted[:, 0], c.at < 0.1) and bool(c.valid.all())
        (stage,) = make_stages(scene)
        assert stage.early.begin == 0.1 and stage.average == 0.9
        rows = ((c.predicted - c.measured) / c.sigma)[~c.fitted]
        found = Objective(problem, stage, problem.space.start(), threads=1).unfitted([problem.space.start()])
        assert found[0] <= 0.5 * float(rows.square().sum()) * (1.0 + 1e-9) and found[0] > 0.0

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("fit.early_stop={every: 3}", "needs `begin`"),
            ("fit.early_stop={begin: 1 s}", "tables have no time"),
            ("fit.early_stop={recordings: [pull]}", "give it `role: holdout`"),
            ("fit.early_stop={recordings: [push]}", "push"),
        ],
    )
    def test_what_cannot_be_looked_at(self, tables, change, told):
        with pytest.raises(SceneError, match=told):
            load_scene(tables, [change])


def test_a_growing_horizon(fall):
    stages = "[{name: short, end: 0.06 s, iterations: 2}, {name: all, iterations: 2}]"
    scene = load_scene(fall, [f"fit.stages={stages}"])
    problem = make_problem(scene)
    position = run_fit(problem, make_stages(scene), [problem.space.start()], threads=1)
    first, _, second, _ = position.history
    objective = Objective(problem, Stage(end=0.06), problem.space.start(), threads=1)
    assert first["loss"] == pytest.approx(objective.losses([problem.space.start()])[0])
    assert first["loss"] < second["loss"]
