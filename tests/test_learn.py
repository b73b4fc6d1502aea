"""Learning a law from observed states: linear start, refinement on runs in worlds, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from physim.errors import FitError, InputError
from physim.fit.learn.linear import linear_start
from physim.fit.learn.refine import refine
from physim.fit.learn.runs import Runs
from physim.fit.learn.shooting import Motion, Shooting
from physim.laws.material import Material
from physim.laws.neural import cann, formula, neural_energy
from physim.sim.model import Collider, Grid, Model, Wall
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM

DT = 2e-4
DOUBLE = torch.float64


def block(material: Material, dtype: torch.dtype = DOUBLE) -> SolverMPM:
    """A stretched, sheared block that falls onto a floor."""
    line = 0.3 + (torch.arange(6, dtype=dtype) + 0.5) * 0.05
    x = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    vol0 = torch.full((len(x),), 0.05**3, dtype=dtype)
    model = Model(Grid((0, 0, 0), 0.1, (12, 12, 12)), vol0, [material], walls=[Wall(1, False, 0.2)])
    spin = torch.tensor([3.0, 2.0, -4.0], dtype=dtype)
    v = torch.linalg.cross(spin.expand_as(x), x - 0.45) + torch.tensor([0.5, -3.0, 0.0], dtype=dtype)
    return SolverMPM(model, x, v, threads=1)


def stretched(solver: SolverMPM) -> ParticleState:
    """A first state with strains in it, so that every motion has some to show."""
    state = solver.initial_state()
    G = torch.tensor([[0.1, 0.08, 0.0], [0.0, -0.12, 0.05], [0.03, 0.0, 0.06]], dtype=state.x.dtype)
    wave = torch.sin(9.0 * state.x[:, :1, None])
    return state.replace(F=state.F + wave * G)


def observe(material: Material, count: int = 30, every: int = 4, dtype: torch.dtype = DOUBLE) -> Motion:
    """States of a motion of `material`."""
    solver = block(material, dtype)
    states = [stretched(solver)]
    with torch.no_grad():
        for _ in range(count):
            states.append(solver.advance(states[-1], None, DT, every))
    return Motion(tuple(states), DT, every, position_noise=1e-6, velocity_noise=1e-4)


def learnt(hidden: int = 16, convex: bool = False, seed: int = 0) -> Material:
    law = neural_energy("invariants", hidden=hidden, convex=convex)
    return Material(law, rho0=1e3, values={"E": 6e4, "nu": 0.35}, network=law.network.make(seed=seed))


def stress_error(a: Material, b: Material, motion: Motion) -> float:
    """Relative difference of stresses over the strains that occur."""
    F = torch.cat([s.F for s in motion.states[::5]]).double()
    with torch.no_grad():
        one, two = a.kirchhoff(F), b.kirchhoff(F)
    return float((one - two).norm() / two.norm())


TRUE = Material("neo_hookean", rho0=1e3, values={"E": 1e5, "nu": 0.3})


@pytest.fixture(scope="module")
def seen() -> Motion:
    return observe(TRUE)


def test_residuals_of_the_true_law_vanish_and_rows_are_independent(seen: Motion) -> None:
    material = Material("neo_hookean", rho0=1e3, values={"E": 1e5, "nu": 0.3})
    shooting = Shooting(block(material), seen)
    theta = material.theta().detach()
    rows = torch.cat([theta, 1.1 * theta, theta])
    found = shooting.residuals(rows, [0, 7, 20], 2)
    assert found.shape == (3, 3 * 216 * 3 * 2)
    assert float(found[0].abs().max()) < 1e-5 and float(found[1].abs().max()) > 1.0
    assert torch.equal(found[0], found[2])
    alone = shooting.residuals(rows[1:2], [7], 2)[0].reshape(2, -1)
    together = found[1].reshape(2, 3, -1)[:, 1]
    assert float((alone - together).abs().max()) < 1e-6 * float(together.abs().max())


def test_a_linear_start_finds_law_and_moduli(seen: Motion) -> None:
    material = learnt()
    before = stress_error(material, TRUE, seen)
    found = linear_start(Shooting(block(material), seen), most=20)
    after = stress_error(material, TRUE, seen)
    assert before > 0.1 and after < 0.01
    assert found.shear == pytest.approx(1e5 / 2.6, rel=0.05) and found.held_out < 0.05 * found.before
    assert material.values()["E"].item() == pytest.approx(9 * found.bulk * found.shear / (3 * found.bulk + found.shear))
    assert found.kept == 1.0 and len(found.sd) == 5 + 16


def test_a_linear_start_finds_the_terms_of_a_readable_law(seen: Motion) -> None:
    law = cann()
    material = Material(law, rho0=1e3, values={"E": 6e4, "nu": 0.35}, network=law.network.make(seed=0))
    before = stress_error(material, TRUE, seen)
    found = linear_start(Shooting(block(material), seen), most=20)
    assert stress_error(material, TRUE, seen) < min(0.1, 0.4 * before) and min(found.coefficients.values()) >= 0.0
    assert found.shear == pytest.approx(1e5 / 2.6, rel=0.05)


def test_a_linear_start_ends_at_the_true_law_where_that_has_no_units() -> None:
    """Not near it: units count for hundreds of times their coefficient in slopes taken far from the law."""
    water = Material("fluid_quadratic", inelastic="fluid", rho0=1e3, values={"bulk_modulus": 6e4})
    law = neural_energy("volume", hidden=16)
    own = Material(law, inelastic="fluid", rho0=1e3, values={"bulk_modulus": 1.2e5}, network=law.network.make(seed=0))
    found = linear_start(Shooting(block(own), observe(water, count=20, every=5)), most=10)
    assert found.bulk == pytest.approx(6e4, rel=1e-4) and found.missed < 0.1 and 1 < found.rounds < 5
    assert max(abs(v) for n, v in found.coefficients.items() if n != "volume") < 1e-3 * found.bulk


def test_a_linear_start_selects_the_terms_of_a_law_that_is_among_them() -> None:
    true = Material("fixed_corotated", rho0=1e3, values={"E": 1e5, "nu": 0.3})
    law, motion = cann("stretches"), observe(true)
    material = Material(law, rho0=1e3, values={"E": 6e4, "nu": 0.2}, network=law.network.make(seed=0))
    found = linear_start(Shooting(block(material), motion), most=20)
    assert found.shear == pytest.approx(1e5 / 2.6, rel=1e-3) and found.bulk == pytest.approx(1e5 / 1.2, rel=1e-3)
    material.network.prune(1e-2)
    assert formula(material).startswith("psi = 19.2") and formula(material).count("Pa") == 2
    assert stress_error(material, true, motion) < 1e-3


def test_a_linear_start_in_noise_stays_finite_and_says_what_it_cannot_see(seen: Motion) -> None:
    draw = torch.Generator().manual_seed(1)
    noisy = [s.replace(v=s.v + 0.02 * torch.randn(s.v.shape, generator=draw, dtype=DOUBLE)) for s in seen.states]
    motion = Motion(tuple(noisy), DT, seen.every, 1e-5, 0.02)
    material = learnt()
    found = linear_start(Shooting(block(material), motion), most=20)
    assert stress_error(material, TRUE, seen) < 0.1
    assert found.unexcited and all(math.isfinite(v) for v in found.sd.values())
    assert "shear" not in found.unexcited


def test_a_convex_start_keeps_its_signs(seen: Motion) -> None:
    material = learnt(convex=True)
    found = linear_start(Shooting(block(material), seen), most=20)
    assert min(v for n, v in found.coefficients.items()) >= 0.0
    assert found.held_out < 0.5 * found.before and 0.0 <= found.kept <= 1.0


def test_refinement_lowers_the_misfit_of_longer_runs(seen: Motion) -> None:
    material = learnt(hidden=4)
    material.free("network", "E", "nu")
    shooting = Shooting(block(material), seen)
    linear_start(shooting, most=20)
    told: list = []
    rounds = refine(shooting, length=5, most=6, rounds=4, told=told.append)
    first = float(told[0].misfit)
    assert told == rounds and rounds[-1].misfit <= first and any(r.moved for r in rounds)
    assert stress_error(material, TRUE, seen) < 0.02


def test_analytic_constants_are_found_to_roundoff(seen: Motion) -> None:
    material = Material("neo_hookean", rho0=1e3, values={"E": 5e4, "nu": 0.4})
    material.free("E", "nu")
    rounds = refine(Shooting(block(material), seen), length=3, most=6, rounds=12)
    assert rounds[-1].misfit < 1e-3
    assert material.values()["E"].item() == pytest.approx(1e5, rel=1e-6)
    assert material.values()["nu"].item() == pytest.approx(0.3, rel=1e-6)


def test_what_is_refused(seen: Motion) -> None:
    shooting = Shooting(block(learnt()), seen)
    with pytest.raises(FitError, match="nothing of the material is free"):
        refine(shooting, length=1)
    wild = learnt()
    wild.set(E=1e13)
    with pytest.raises(FitError, match="a run of the linear start fails"):
        linear_start(Shooting(block(wild), seen), most=4)
    rest = seen.states[0].replace(
        **{n: 0.0 * getattr(seen.states[0], n) for n in "vC"},
        F=torch.eye(3).to(seen.states[0].F).expand(216, 3, 3).contiguous(),
    )
    still = Motion((rest,) * 6, DT, 4, 1e-6)
    with pytest.raises(FitError, match="the motion says nothing about shear, volume"):
        linear_start(Shooting(block(learnt()), still))
    with pytest.raises(InputError, match="do not fit into a motion of 30"):
        seen.starts(31, 5)
    with pytest.raises(InputError, match="at least two states"):
        Motion(seen.states[:1], DT, 4, 1e-6)
    with pytest.raises(InputError, match="position_noise"):
        Motion(seen.states, DT, 4, 0.0)
    frames = ((0.0, (0.5, 0.1, 0.5)), (0.0101, (0.5, 0.11, 0.5)))
    plate = Collider.plane((0.5, 0.1, 0.5), (0, 1, 0), keyframes=frames)
    still = block(TRUE).model
    model = Model(still.grid, still.vol0, [TRUE], colliders=[plate])
    moved = Shooting(SolverMPM(model, seen.states[0].x), seen)
    theta = TRUE.theta().detach()
    assert moved.residuals(theta, [0], 12).shape[0] == 1
    with pytest.raises(InputError, match=r"changes its velocity at 0\.0101 s, within a run from 0\.008 s"):
        moved.residuals(theta, [0, 10], 4)
    with pytest.raises(InputError, match=r"within a run from 0\.0096 s"):
        Runs(moved, [0], 20, through=True).residuals(theta)
    with pytest.raises(InputError, match="linear start is for laws with weights"):
        linear_start(Shooting(block(TRUE), seen))
