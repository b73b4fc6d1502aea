from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from fit_toys import Oscillator

from physim.errors import FitError, InputError, SimulationError
from physim.fit.loop import best_start, run_fit
from physim.fit.misfit import misfit, score_covariance
from physim.fit.problem import Objective
from physim.fit.space import Prior, Quantity, Space, Transform
from physim.fit.stage import Method, Stage
from physim.fit.uncertainty import assess

TRUTH = [4.0, 0.5]


def fit(problem, *stages, starts=None, **options):
    position = run_fit(problem, stages or (Stage(),), starts or [problem.space.start()], **options)
    best = position.finished[best_start(position)]
    return problem.space.values(best.raw).tolist(), best, position


def autoregression(n, phi, generator):
    series = torch.randn(n, generator=generator, dtype=torch.float64)
    series[1:] *= (1 - phi**2) ** 0.5
    for i in range(1, n):
        series[i] += phi * series[i - 1]
    return series


class TestSpace:
    @pytest.mark.parametrize(
        "q",
        [
            Quantity("E", "Pa", 2e5),
            Quantity("nu", "", 0.3, Transform.LOGIT, 0.0, 0.5),
            Quantity("v", "m/s", -1.0, Transform.LINEAR, scale=0.1),
        ],
    )
    def test_round_trip(self, q):
        assert float(q.value(torch.tensor(q.raw(q.start), dtype=torch.float64))) == pytest.approx(q.start)

    def test_errors(self):
        with pytest.raises(InputError, match="outside its bounds"):
            Quantity("nu", "", 0.6, Transform.LOGIT, 0.0, 0.5)
        with pytest.raises(InputError, match="above zero"):
            Quantity("E", "Pa", -1.0)
        with pytest.raises(InputError, match="fitted twice"):
            Space((Quantity("E", "Pa", 1.0), Quantity("E", "Pa", 1.0)))
        with pytest.raises(InputError, match="nothing to fit"):
            Space(())
        with pytest.raises(InputError, match=r"Did you mean 'materials\.beam\.E'"):
            Oscillator().space.index("materials.bean.E")

    def test_starts(self):
        space = Oscillator().space
        assert space.values(space.factored(2.0)).tolist() == pytest.approx([16.0, 0.6])
        assert space.values(space.factored(1e4)).tolist() == pytest.approx([8e4, 30.0])
        assert space.values(space.replaced({"materials.beam.E": 3.0})).tolist() == pytest.approx([3.0, 0.3])


class TestBounds:
    @pytest.mark.parametrize(("lower", "upper", "end"), [(0.5, 3.0, 3.0), (5.0, 50.0, 5.0)])
    @pytest.mark.parametrize("start", ["inside", "bound"])
    def test_a_parameter_at_its_bound_leaves_the_other_at_its_own_minimum(self, lower, upper, end, start):
        problem = Oscillator(noise=0.0)
        E = dataclasses.replace(
            problem.space.quantities[0],
            start=end if start == "bound" else (lower * upper) ** 0.5,
            lower=lower,
            upper=upper,
        )
        problem.space = Space((E, problem.space.quantities[1]))
        stage = Stage(method=Method.GAUSS_NEWTON, iterations=60, end=1.0)
        result = run_fit(problem, [stage], [problem.space.start()]).finished[0]
        fitted = problem.space.values(result.raw).tolist()
        assert fitted[0] == pytest.approx(end, rel=1e-6) and result.stop.startswith("converged")
        objective = Objective(problem, stage, result.raw)
        z = objective.start()
        (r,) = objective.residuals([z])
        J = objective.jacobian(z, r, 1e-5)
        assert torch.isfinite(J).all()
        slopes = J.T @ r
        still = abs(float(slopes[1])) < 1e-3 * float(J[:, 1].norm() * r.norm())
        assert still or (fitted[1] == pytest.approx(1e-3) and float(slopes[1]) > 0)  # it may end at its own bound


class TestObjective:
    def test_differences_agree_with_autograd_and_the_adjoint(self):
        problem = Oscillator(huber=2.0)
        objective = Objective(problem, Stage(begin=0.5, end=3.0), problem.space.start())
        z = objective.start()
        (r,) = objective.residuals([z])
        J = objective.jacobian(z, r, 1e-4)
        problem.exact_jacobian = True
        torch.testing.assert_close(J, objective.jacobian(z, r, 1e-4), rtol=1e-4, atol=1e-3)
        loss, gradient = objective.value_and_gradient(z)
        assert loss == pytest.approx(0.5 * float(r @ r))
        torch.testing.assert_close(gradient, objective.jacobian(z, r, 0).T @ r)

    def test_one_sided_where_the_other_side_fails(self):
        problem = Oscillator(breaks=(8.0 + 1e-9, 9.0))
        objective = Objective(problem, Stage(), problem.space.start())
        (r,) = objective.residuals([objective.start()])
        J = objective.jacobian(objective.start(), r, 1e-4)
        problem.exact_jacobian = True
        exact = objective.jacobian(objective.start(), r, 0)
        assert float((J - exact).norm() / exact.norm()) < 1e-2
        problem.exact_jacobian, problem.breaks = False, (1.0, 9.0)
        with pytest.raises(SimulationError, match=r"both sides of the current materials\.beam\.E"):
            objective.jacobian(objective.start(), r, 1e-4)

    def test_unknown_names(self):
        problem = Oscillator()
        with pytest.raises(InputError, match=r"materials\.beam\.E"):
            Objective(problem, Stage(parameters=("materials.beam.e",)), problem.space.start())
        with pytest.raises(FitError, match="no recording"):
            Objective(problem, Stage(recordings=("c",)), problem.space.start())


class TestOptimisers:
    @pytest.mark.parametrize("factor", [0.5, 1.0])
    def test_gauss_newton(self, factor):
        problem = Oscillator()
        values, best, _ = fit(problem, starts=[problem.space.factored(factor)])
        assert values == pytest.approx(TRUTH, rel=0.01)
        assert "converged" in best.stop

    def test_robust_steps_do_not_overshoot(self):
        problem = Oscillator(huber=2.0)
        _, best, position = fit(problem, Stage(rate=3.0, end=1.0), starts=[problem.space.factored(0.6)])
        # Plain Gauss-Newton on square roots of distances steps from 4.8 to 3.2, past the 4.0 of the truth.
        assert 3.8 < position.history[0]["values"]["materials.beam.E"] < 4.4
        assert "converged" in best.stop

    def test_growing_window_escapes_a_wrong_period(self):
        problem = Oscillator()
        stages = (Stage("early", end=0.6, tolerance=0.02), Stage("all"))
        for factor in (0.25, 4.0):
            values, _, _ = fit(problem, *stages, starts=[problem.space.factored(factor)])
            assert values == pytest.approx(TRUTH, rel=0.01)

    def test_several_starts_keep_the_best(self):
        problem = Oscillator()
        starts = [problem.space.factored(f) for f in (0.01, 1.0)]
        values, _, position = fit(problem, Stage(iterations=10), starts=starts)
        assert values == pytest.approx(TRUTH, rel=0.05)
        assert best_start(position) == 1 and position.finished[0].loss > 10 * position.finished[1].loss

    def test_adam(self):
        values, _, position = fit(Oscillator(), Stage(method=Method.ADAM, iterations=150, rate=0.1, tolerance=0.0))
        assert values == pytest.approx(TRUTH, rel=0.01)
        assert len(position.history) == 150

    def test_lbfgs(self):
        values, _, position = fit(Oscillator(), Stage(method=Method.LBFGS, iterations=60, tolerance=1e-6))
        assert values == pytest.approx(TRUTH, rel=0.01)
        assert len(position.history) < 30

    def test_a_stage_frees_only_its_parameters(self):
        values, _, _ = fit(Oscillator(), Stage(parameters=("materials.beam.E",)))
        assert values[1] == pytest.approx(0.3, abs=1e-12) and values[0] == pytest.approx(4.0, rel=0.05)

    @pytest.mark.parametrize(
        ("method", "begin", "breaks", "rate"),
        [
            (Method.GAUSS_NEWTON, 1.0, (3.5, 3.8), 1.0),
            (Method.ADAM, 2.5, (4.1, 1e9), 0.2),
            (Method.LBFGS, 2.5, (4.1, 1e9), 2.0),
        ],
    )
    def test_a_failing_simulation_is_a_rejected_step(self, method, begin, breaks, rate):
        problem = Oscillator(breaks=breaks)
        start = problem.space.replaced({"materials.beam.E": begin})
        stage = Stage(method=method, iterations=200, rate=rate)
        values, _, position = fit(problem, stage, starts=[start])
        assert values == pytest.approx(TRUTH, rel=0.02)
        assert any("not finite" in r["note"] for r in position.history)
        assert all(math.isfinite(v) for r in position.history for v in r["values"].values())

    def test_a_failing_region_beside_the_best_point_is_said(self):
        problem = Oscillator(breaks=(2.8, 3.1))
        _, best, _ = fit(problem, starts=[problem.space.replaced({"materials.beam.E": 2.5})])
        assert best.stop.startswith("stuck beside parameters where the simulation fails: substep 3")

    def test_every_start_failing_is_an_error(self):
        with pytest.raises(FitError, match=r"no start could be simulated.*not finite"):
            fit(Oscillator(breaks=(1.0, 9.0)))

    def test_prior_pulls(self):
        problem = Oscillator(dummy=True)
        q = problem.space.quantities
        prior = Quantity("materials.beam.nu", "", 0.3, Transform.LOGIT, 0.0, 0.5, prior=Prior(0.45, 0.2))
        problem.space = Space((*q[:2], prior))
        values, best, _ = fit(problem)
        assert values == pytest.approx([*TRUTH, 0.45], rel=0.02)
        found = assess(problem, best.raw)
        assert found.estimates[2].determined
        assert float(found.covariance[2, 2]) == pytest.approx(0.04, rel=0.01)
        _, best, _ = fit(problem, Stage(method=Method.LBFGS, tolerance=1e-7, iterations=50))
        assert problem.space.values(best.raw).tolist() == pytest.approx([*TRUTH, 0.45], rel=0.02)


class TestUncertainty:
    def coverage(self, seeds, **options):
        hits, widths = torch.zeros(2), []
        for seed in range(seeds):
            problem = Oscillator(seed=seed, **options)
            _, best, _ = fit(problem, starts=[problem.space.replaced({"materials.beam.E": 4.2})], threads=1)
            found = assess(problem, best.raw, threads=1)
            hits += torch.tensor([e.low <= t <= e.high for e, t in zip(found.estimates, TRUTH, strict=True)])
            widths.append(found.estimates[0].high / found.estimates[0].low)
        return (hits / seeds).tolist(), widths

    def test_white_noise(self):
        (E, c), widths = self.coverage(60)
        assert 0.82 <= E <= 1.0 and 0.82 <= c <= 1.0
        assert max(widths) < 1.01

    def test_stated_noise_too_small(self):
        (E, c), _ = self.coverage(60, noise=0.05)
        assert E >= 0.82 and c >= 0.82

    def test_correlated_noise(self):
        hits = torch.zeros(2)
        for seed in range(40):
            problem = Oscillator(noise=0.0)
            g = torch.Generator().manual_seed(seed)
            for record in problem.data.values():
                record += 0.03 * autoregression(len(record), 0.8, g)
            _, best, _ = fit(problem, starts=[problem.space.replaced({"materials.beam.E": 4.2})], threads=1)
            found = assess(problem, best.raw, threads=1)
            hits += torch.tensor([e.low <= t <= e.high for e, t in zip(found.estimates, TRUTH, strict=True)])
        # 72 are expected; white-noise formulas would give about 35.
        assert float(hits.sum()) >= 64

    def test_copied_channels_add_no_information(self):
        problem = Oscillator(seed=3)
        (one,) = problem.predict("a", problem.space.raw(TRUTH))
        found = misfit(one)
        wide = {f: getattr(one, f).expand(-1, 4) for f in ("measured", "predicted", "sigma", "fitted", "valid")}
        copied = misfit(dataclasses.replace(one, columns=tuple("abcd"), **wide))
        assert copied.count == 4 * found.count
        assert copied.effective == pytest.approx(found.effective)
        g = torch.Generator().manual_seed(0)
        J = torch.randn(len(one.at), 1, 2, generator=g, dtype=torch.float64)
        once, four = score_covariance(found, J), score_covariance(copied, J.expand(-1, 4, -1))
        # Four times the information J^T J, and sixteen times the score covariance: the same parameter covariance.
        torch.testing.assert_close(four, 16.0 * once)

    def test_score_covariance_is_the_double_sum(self):
        problem = Oscillator(noise=0.001, drift=0.2)
        found = misfit(problem.predict("a", problem.space.raw(TRUTH))[0])
        g = torch.Generator().manual_seed(0)
        J = torch.randn(len(problem.t), 1, 2, generator=g, dtype=torch.float64)
        lags = (torch.arange(len(problem.t))[:, None] - torch.arange(len(problem.t))[None]).abs()
        direct = torch.einsum("tp,ts,sq->pq", J[:, 0], found.correlation[lags], J[:, 0])
        torch.testing.assert_close(score_covariance(found, J), direct)
        assert float(torch.linalg.eigvalsh(found.correlation[lags]).min()) > -1e-8

    def test_misfit_correlated_in_time_widens(self):
        problem = Oscillator(noise=0.001, drift=0.2)
        _, best, _ = fit(problem)
        found = assess(problem, best.raw)
        assert found.effective["a.tip"] < 40
        rows = Oscillator(noise=0.001, drift=0.2)
        naive = assess(rows, best.raw)
        assert naive.noise["a.tip"] > 5
        assert found.estimates[1].low < TRUTH[1] < found.estimates[1].high

    def test_undetermined_parameter_is_named(self):
        problem = Oscillator(dummy=True)
        values, best, _ = fit(problem)
        found = assess(problem, best.raw)
        assert values[:2] == pytest.approx(TRUTH, rel=0.01)
        assert [e.determined for e in found.estimates] == [True, True, False]
        assert "do not determine materials.beam.nu" in found.warnings[0]
        assert (found.estimates[2].low, found.estimates[2].high) == (0.0, 0.5)
        assert torch.isfinite(found.correlation).all()


def test_stage_errors():
    for bad in ({"iterations": 0}, {"rate": -1.0}, {"difference": 0.0}, {"begin": 1.0, "end": 1.0}):
        with pytest.raises(InputError, match="stage 'fit'"):
            Stage(**bad)
