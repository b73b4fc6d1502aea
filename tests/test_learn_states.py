"""Laws learned from states: runs, rounds, schedules, checkpoints, and what they refuse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from test_learn import TRUE, block, observe

from physim.errors import FitError, InputError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.learn.coordinates import Coefficients, Parameters
from physim.fit.learn.descend import descend
from physim.fit.learn.learn import Lesson, learn, learn_motion, shortened
from physim.fit.learn.runs import Runs
from physim.fit.learn.schedule import Schedule, make_stages
from physim.fit.learn.search import Objective, Search, bounded, gauss_newton
from physim.fit.learn.shooting import Motion, Shooting
from physim.fit.learn.together import Together
from physim.laws.material import Material
from physim.laws.neural import neural_energy

UNITS = 4
QUICK = Schedule(lengths=(8,), whole=False, rounds=2, runs=8)


def fresh(seed: int = 0) -> Material:
    law = neural_energy("invariants", hidden=UNITS)
    made = Material(law, rho0=1e3, values={"E": 6e4, "nu": 0.35}, network=law.network.make(seed=seed))
    made.free("network", "E", "nu")
    return made


@pytest.fixture(scope="module")
def seen() -> Motion:
    return observe(TRUE, count=12)


def test_coefficients_are_the_material_s_own(seen: Motion) -> None:
    material = fresh()
    linear, raw = Coefficients(material), Parameters(material)
    theta = material.theta().detach()
    for coordinates in (linear, raw):
        point = coordinates.read()
        assert torch.allclose(coordinates.theta(point[None]), theta, rtol=1e-12, atol=1e-9)
    point = linear.read()
    point[0] *= 1.1
    linear.write(point)
    assert torch.allclose(linear.theta(point[None]), material.theta().detach(), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("kind", [Coefficients, Parameters])
def test_gradients_of_runs_are_those_of_differences(seen: Motion, kind: type, through: bool) -> None:
    material = fresh()
    coordinates = kind(material)
    shooting = Shooting(block(material), seen)
    objective = Objective(coordinates, [Runs(shooting, [0, 5], 3, through=through)])
    point = coordinates.read()
    square, slope = objective.gradient(point)
    assert square == pytest.approx(float(objective.misfits(point[None])[0]), rel=1e-9)
    g = torch.Generator().manual_seed(1)
    step = 1e-5 * torch.randn(len(point), dtype=torch.float64, generator=g)
    ends = objective.misfits(torch.stack([point + step, point - step]))
    assert float(slope @ step) == pytest.approx(float(ends[0] - ends[1]) / 2.0, rel=1e-4)


def test_tracks_of_some_particles_are_compared_and_differentiated(seen: Motion) -> None:
    material = fresh()
    coordinates, some = Coefficients(material), torch.tensor([3, 50, 200])
    runs = Runs(Shooting(block(material), seen), [0], 6, observed=some)
    point = coordinates.read()
    theta = coordinates.theta(point[None])
    assert runs.residuals(theta).shape == (1, 6 * 3 * 3)
    square, count, slope = runs.gradient(theta[0])
    assert count == 54 and square == pytest.approx(float(runs.residuals(theta).square().sum()), rel=1e-9)
    assert torch.isfinite(slope).all() and float(slope.norm()) > 0.0
    with pytest.raises(InputError, match="particles from 0 to 215"):
        Runs(Shooting(block(material), seen), [0], 6, observed=torch.tensor([216]))
    with pytest.raises(InputError, match="particles from 0 to 215"):
        Runs(Shooting(block(material), seen), [0], 6, observed=torch.tensor([-1, 4]))


def test_position_errors_are_means_over_particles_and_axes(seen: Motion) -> None:
    material = fresh()
    solver, state, want = block(material), seen.states[0], []
    with torch.no_grad():
        for known in seen.states[1:4]:
            state = solver.advance(state, None, seen.dt, seen.every)
            want.append(float((state.x - known.x).square().mean()))
    found = Runs(Shooting(block(material), seen), [0], 3).position_errors(material.theta().detach())
    assert found.tolist() == pytest.approx(want, rel=1e-9)


def test_a_round_of_gauss_newton_lowers_the_misfit_and_keeps_bounds(seen: Motion) -> None:
    material = fresh()
    coordinates = Coefficients(material)
    objective = Objective(coordinates, [Runs(Shooting(block(material), seen), [0, 4, 8], 2)])
    search = Search(coordinates.read())
    before, after = gauss_newton(objective, search)
    assert after < 0.05 * before
    assert bool((search.point >= coordinates.low).all())
    assert float(objective.misfits(search.point[None])[0]) == pytest.approx(after, rel=1e-9)


def test_a_step_along_what_says_nothing_is_small_and_no_error() -> None:
    g = torch.Generator().manual_seed(0)
    J = torch.randn(20, 8, generator=g, dtype=torch.float64)  # twelve of twenty directions change nothing
    pull = J @ torch.randn(8, generator=g, dtype=torch.float64)
    point, low = torch.ones(20, dtype=torch.float64), torch.full((20,), -torch.inf, dtype=torch.float64)
    low[:3] = 0.0
    found = bounded(J @ J.T, pull, point, low)
    assert bool((found >= low).all()) and float((found - point).norm()) < 10.0
    free = low.clone()
    free[0] = -1e9
    step = bounded(J @ J.T, pull, point, free) - point
    assert torch.allclose(J.T @ step, -torch.linalg.lstsq(J, pull[:, None]).solution[:, 0], atol=1e-6)


@pytest.mark.parametrize("through", [False, True])
def test_runs_that_fail_are_no_number_even_where_all_do(seen: Motion, through: bool) -> None:
    material = fresh()
    runs = Runs(Shooting(block(material), seen), [0, 5], 3, through=through)
    theta = material.theta().detach()
    wild = 1e9 * theta
    good, bad = runs.residuals(theta), runs.residuals(torch.cat([wild, 2.0 * wild]))
    assert bad.shape == (2, good.shape[1]) and not bool(torch.isfinite(bad).all(dim=1).any())
    mixed = runs.residuals(torch.cat([theta, wild]))
    assert torch.equal(mixed[:1], good) and not bool(torch.isfinite(mixed[1]).all())
    objective = Objective(Coefficients(material), [runs])
    assert objective.misfits(1e9 * objective.coordinates.read()[None])[0] == float("inf")


def test_several_trajectories_are_one(seen: Motion) -> None:
    material = fresh()
    one = Shooting(block(material), seen)
    both = Together([one, one])
    starts = both.starts(2, 6)
    assert len(starts) == 6
    theta = material.theta().detach()
    found = both.residuals(theta, starts, 2)
    half = one.residuals(theta, starts[:3], 2)
    assert torch.equal(found, torch.cat([half, half], dim=1))


def test_a_law_is_learned_resumed_to_the_same_bits_and_only_for_the_same_task(seen: Motion, tmp_path) -> None:
    told: list[dict] = []
    material = fresh()
    key = {"the scene": "a"}
    store = CheckpointStore(tmp_path, keep=9)
    found = learn([Lesson("drop", block(material), seen)], QUICK, store=store, key=key, listen=told.append)
    assert found.held_out < found.first and told[-1]["held_out"] <= told[0]["held_out"]
    assert found.start is not None and told[0]["stage"] == -1
    theta = material.theta().detach()
    for number in store.numbers()[2:]:
        store.path(number).unlink()
    other = fresh()
    again = learn([Lesson("drop", block(other), seen)], QUICK, store=store, key=key, resume=True)
    assert torch.equal(again.point, found.point) and torch.equal(other.theta().detach(), theta)
    assert len(again.history) == len(found.history)
    with pytest.raises(FitError, match="changed since: the scene"):
        learn([Lesson("drop", block(other), seen)], QUICK, store=store, key={"the scene": "b"}, resume=True)


def test_misfits_are_those_of_what_is_kept(seen: Motion) -> None:
    material = fresh()
    objective = Objective(Parameters(material), [Runs(Shooting(block(material), seen), [0, 5], 3)])
    search = Search(objective.coordinates.read())
    kept = [float(objective.misfits(search.point[None])[0])]
    for _ in range(2):
        told = descend(objective, search, method="adam", rate=0.1, iterations=4, total=8, ema=0.9)
        kept.append(float(objective.misfits(search.point[None])[0]))
        assert told == (kept[-2], kept[-1])
    assert search.optimiser is not None and not torch.equal(search.optimiser["z"], search.point)

    schedule = Schedule(
        start="none", method="adam", lengths=(8,), whole=False, rounds=3, iterations=4, rate=0.1, held_out=0.0
    )
    found = learn([Lesson("drop", block(fresh()), seen)], schedule)
    records = found.history
    assert [r["before"] for r in records[1:]] == [r["misfit"] for r in records[:-1]]
    assert found.held_out == min(r["misfit"] for r in records if r["better"])


def test_a_budget_is_that_of_the_whole_task(seen: Motion, tmp_path, monkeypatch) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr("physim.fit.learn.learn.time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    schedule = Schedule(start="none", method="adam", lengths=(8,), whole=False, rounds=40, iterations=2, budget=12.0)
    store = CheckpointStore(tmp_path)
    found = learn([Lesson("drop", block(fresh()), seen)], schedule, store=store)
    assert found.stopped == "the time is up" and 1 <= len(found.history) < 10 and found.seconds > 12.0
    again = learn([Lesson("drop", block(fresh()), seen)], schedule, store=store, resume=True)
    assert again.stopped == "the time is up" and len(again.history) == len(found.history)
    assert again.seconds >= 12.0


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_gradient_methods_lower_the_misfit_from_a_law_that_knows_nothing(seen: Motion, method: str) -> None:
    schedule = Schedule(start="none", method=method, lengths=(8,), whole=False, rounds=2, iterations=5, rate=0.1)  # type: ignore[arg-type]
    found = learn([Lesson("drop", block(fresh()), seen)], schedule)
    assert found.held_out < 0.9 * found.first


def test_tracks_of_a_few_particles_teach_from_the_known_start(seen: Motion) -> None:
    schedule = Schedule(lengths=(24,), rounds=2, held_out=0.0)
    material = fresh()
    found = learn_motion(block(material), seen, observed=20, schedule=schedule)
    assert found.held_out < 0.1 * found.first
    # What nobody observed is not judged by either.
    start = fresh()
    some = torch.linspace(0, 215, 20).round().long()
    runs = Runs(Shooting(block(start), seen), [0], 12, observed=some)
    assert found.first == pytest.approx(float(runs.residuals(start.theta().detach()).square().mean().sqrt()), rel=1e-9)
    # All of the particles, counted or named, are still positions alone: no linear start, which reads whole states.
    whole = Schedule(method="none", held_out=0.0)
    for every in (216, torch.arange(216)):
        found = learn_motion(block(fresh()), seen, observed=every, schedule=whole)
        assert found.start is None and found.taught.runs[0].observed is not None
    with pytest.raises(InputError, match="expected 1 to 216 particles, got 300"):
        learn_motion(block(material), seen, observed=300, frames=5)


def test_stages_grow_and_refuse_what_does_not_fit(seen: Motion) -> None:
    long = observe(TRUE, count=60)
    names = [s.name for s in make_stages(Schedule(), [long])]
    assert names == ["24 substeps", "100 substeps", "whole runs"]
    assert make_stages(Schedule(method="none"), [long]) == []
    with pytest.raises(InputError, match="runs of 1000 substeps do not fit into 240"):
        make_stages(Schedule(lengths=(1000,)), [long])
    assert shortened(long, 11).intervals == 10
    with pytest.raises(InputError, match="at least 2"):
        shortened(long, 1)
    with pytest.raises(InputError, match="every trajectory is held out"):
        learn([Lesson("drop", block(fresh()), seen, holdout=True)])
