"""Strengths read off observed elastic strains, and the starts and searches that build on them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from physim.errors import FitError, InputError
from physim.fit.learn.flow import flow_start, held_in_strains, learned_start, observed_flow, with_history
from physim.fit.learn.refine import refine
from physim.fit.learn.shooting import Motion, Shooting
from physim.laws.material import Material
from physim.laws.neural import neural_energy, neural_plastic
from physim.sim.model import Grid, Model, Wall
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM

DOUBLE = torch.float64
MODULI = {"E": 3e5, "nu": 0.25}


LINE = 0.3 + (torch.arange(5, dtype=DOUBLE) + 0.5) * 0.05
X = torch.stack(torch.meshgrid(LINE, LINE, LINE, indexing="ij"), -1).reshape(-1, 3)


def solver_of(material: Material, v: Tensor | None = None) -> SolverMPM:
    """A block above a floor."""
    vol0 = torch.full((len(X),), 0.05**3, dtype=DOUBLE)
    model = Model(Grid((0, 0, 0), 0.1, (10, 10, 10)), vol0, [material], walls=[Wall(1, False, 0.2)])
    return SolverMPM(model, X, v, threads=1)


def kneaded(material: Material, *, every: int = 1, noise: float = 0.0, count: int = 40, n: int = 125) -> Motion:
    """Particles that each follow smooth velocity gradients of their own, and nothing else: no run is made."""
    draw = torch.Generator().manual_seed(3)
    rate, phase = 8.0 * torch.randn(2, n, 3, 3, dtype=DOUBLE, generator=draw)
    press = torch.eye(3, dtype=DOUBLE) * (6.0 * torch.rand(n, 1, 1, dtype=DOUBLE, generator=draw))
    dt, F, h = 4e-4, torch.eye(3, dtype=DOUBLE).expand(n, 3, 3), material.rest_history(n)
    states = [ParticleState(X, torch.zeros_like(X), torch.zeros_like(F), F.clone(), h.new_zeros(n, 0), 0.0)]
    for i in range(1, every * count + 1):
        t = i * dt
        C = rate * math.sin(60.0 * t) + phase * math.sin(100.0 * t + 1.0) - press * math.cos(40.0 * t)
        f = torch.eye(3, dtype=DOUBLE) + dt * C
        F, h = material.project(f @ F, f, dt, h=h)
        if i % every == 0:
            seen = F + noise * torch.randn(F.shape, dtype=DOUBLE, generator=draw)
            states.append(ParticleState(X, torch.zeros_like(X), C, seen, h.new_zeros(n, 0), t))
    return Motion(tuple(states), dt, every, 1e-6, strain_noise=max(noise, 1e-9))


def clay(**values: float) -> Material:
    return Material("hencky", inelastic="von_mises", rho0=1e3, values={**MODULI, "yield_stress": 5e3} | values)


def sand(**values: float) -> Material:
    given = {**MODULI, "friction_angle": math.radians(25.0)} | values
    return Material("hencky", inelastic="drucker_prager", rho0=1e3, values=given)


def learnt(seed: int = 0, hidden: int = 4, **values: float) -> Material:
    law, flow = neural_energy("hencky", hidden=hidden), neural_plastic(8)
    assert law.network is not None and flow.network is not None
    given = {"E": 1.5e5, "nu": 0.35, "yield_stress": 2e3, "friction_angle": 0.2} | values
    nets = {"network": law.network.make(seed), "inelastic_network": flow.network.make(seed)}
    return Material(law, inelastic=flow, rho0=1e3, values=given, **nets)


def shooting_of(material: Material, motion: Motion) -> Shooting:
    return Shooting(solver_of(material), with_history(motion, material))


@pytest.mark.parametrize("every", [1, 5])
def test_constants_of_von_mises_are_read_off(every: int) -> None:
    motion = kneaded(clay(hardening=2e3), every=every)
    guess = clay(yield_stress=1e3, hardening=1.0)
    found = flow_start(shooting_of(guess, motion))
    assert found.values["yield_stress"] == pytest.approx(5e3, rel=1e-8 if every == 1 else 0.01)
    assert found.values["hardening"] == pytest.approx(2e3, rel=1e-7 if every == 1 else 0.1)
    assert float(guess.values()["yield_stress"]) == found.values["yield_stress"]
    assert found.held_out < (1e-9 if every == 1 else 0.03) and not found.unexcited
    assert 0.2 < found.yielding < 1.0 and found.plastic > 0.1


@pytest.mark.parametrize("cohesion", [0.0, 1e3])
def test_constants_of_drucker_prager_are_read_off(cohesion: float) -> None:
    motion = kneaded(sand(cohesion=cohesion))
    found = flow_start(shooting_of(sand(friction_angle=0.1, cohesion=50.0), motion))
    assert found.values["friction_angle"] == pytest.approx(math.radians(25.0), rel=1e-8)
    assert found.values["cohesion"] == pytest.approx(cohesion, rel=1e-8, abs=1e-4)


def test_a_plastic_strain_is_reconstructed() -> None:
    truth = clay(hardening=2e3)
    motion = kneaded(truth)
    seen = observed_flow(motion)
    F, h = motion.states[0].F, truth.rest_history(125)
    for state in motion.states[1:]:
        f = torch.eye(3, dtype=DOUBLE) + motion.dt * state.C
        F, h = truth.project(f @ F, f, motion.dt, h=h)
    assert float((seen.plastic[-1] - h[:, 0]).abs().max()) < 1e-6 * float(h.max())
    carried = with_history(motion, learnt())
    assert torch.equal(carried.states[-1].h[:, 0], seen.plastic[-1])
    assert carried.states[0].h.abs().max() == 0.0
    assert with_history(carried, sand()).states[-1].h.shape == (125, 0)


def test_a_learned_strength_hardens_and_has_a_cone_as_observed() -> None:
    for truth, most in ((clay(hardening=2e3), 0.1), (sand(cohesion=500.0), 1e-4)):
        motion = kneaded(truth)
        material = learnt(**MODULI)
        found = flow_start(shooting_of(material, motion))
        assert found.held_out < most

        F, C = motion.states[30].F, motion.states[31].C
        f = torch.eye(3, dtype=DOUBLE) + motion.dt * C
        h = observed_flow(motion).plastic[30][:, None]
        mine, _ = material.project(f @ F, f, motion.dt, h=h)
        miss = (truth.kirchhoff(mine) - truth.kirchhoff(motion.states[31].F)).norm(dim=(1, 2))
        assert float(miss.square().mean().sqrt()) < most * 5e3


def test_noise_moves_a_strength_by_little_and_what_is_at_a_bound_stays_there() -> None:
    motion = kneaded(clay(), noise=2e-4)
    material = learnt(**MODULI)
    found = flow_start(shooting_of(material, motion))
    assert found.values["friction_angle"] < 0.01 and found.held_out < 0.1
    assert found.values["yield_stress"] == pytest.approx(5e3, rel=0.05)
    assert all(math.isfinite(v) and v >= 0.0 for v in found.sd.values())


@pytest.mark.parametrize("make", [lambda: clay(hardening=3e3), lambda: sand(cohesion=2e3), learnt])
def test_a_map_held_in_strains_does_not_know_the_moduli(make) -> None:
    material = make()
    if material.inelastic_network is not None:
        material.inelastic_network.take(torch.full((8,), 0.3, dtype=DOUBLE))
    motion = kneaded(clay(), count=10)
    held = held_in_strains(shooting_of(material, motion))
    theta = material.theta().detach()
    other = theta.clone()
    other[:, 0] *= 1.7
    other[:, 1] *= 0.6
    assert held.through is not None and held.motion.strain_noise is None
    draw = torch.Generator().manual_seed(0)
    F = torch.eye(3, dtype=DOUBLE) + 0.05 * torch.randn(50, 3, 3, dtype=DOUBLE, generator=draw)
    h = 0.3 * torch.rand(50, material.history_size, dtype=DOUBLE, generator=draw)
    one, two, naive = (material.project(F, F, 1e-3, h=h, theta=t)[0] for t in (theta, held.through(other), other))
    assert float((one - two).abs().max()) < 1e-12 < 1e-4 < float((one - naive).abs().max())
    assert torch.equal(held.through(theta), theta) or float((held.through(theta) - theta).abs().max()) < 1e-9


@pytest.fixture(scope="module")
def dropped() -> Motion:
    """A block of clay thrown at a floor."""
    truth = clay(yield_stress=2e3)
    spin = torch.tensor([3.0, 2.0, -4.0], dtype=DOUBLE)
    v = torch.linalg.cross(spin.expand_as(X), X - 0.425) + torch.tensor([0.5, -3.0, 0.0], dtype=DOUBLE)
    solver = solver_of(truth, v)
    states = [solver.initial_state()]
    with torch.no_grad():
        for _ in range(24):
            states.append(solver.advance(states[-1], None, 2e-4, 4))
    return Motion(tuple(states), 2e-4, 4, 1e-6, 1e-4, 1e-5)


def test_energy_and_strength_are_found_together(dropped: Motion) -> None:
    material = learnt()
    shooting = shooting_of(material, dropped)
    read, found = learned_start(shooting, most=10)
    assert found.shear == pytest.approx(1.2e5, rel=0.01) and found.bulk == pytest.approx(2e5, rel=0.01)
    assert read.values["yield_stress"] == pytest.approx(2e3, rel=0.01) and read.values["friction_angle"] == 0.0
    material.free("E", "nu", "yield_stress")
    rounds = refine(shooting, length=3, most=3, rounds=2)
    assert rounds[-1].misfit <= rounds[0].misfit < 1.0


def test_what_is_refused(dropped: Motion) -> None:
    stiff = clay(yield_stress=1e6)
    with pytest.raises(FitError, match=r"0 of 5000 .* at\s+least"):
        flow_start(shooting_of(clay(), kneaded(stiff)))
    with pytest.raises(InputError, match="von_mises, drucker_prager and neural_plastic"):
        elastic = Material("hencky", rho0=1e3, values=MODULI)
        flow_start(shooting_of(elastic, dropped))
    with pytest.raises(InputError, match="no other history"):
        with_history(
            dropped,
            Material("hencky", inelastic="drucker_prager_loose", rho0=1e3, values=MODULI | {"friction_angle": 0.4}),
        )
    with pytest.raises(InputError, match="with_history"):
        Shooting(solver_of(sand()), dropped)
    with pytest.raises(InputError, match="negative; fit strengths"):
        learnt().inelastic_network.take(torch.tensor([-1.0] * 8, dtype=DOUBLE))
