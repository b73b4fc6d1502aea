"""Failures of MPM particles: named with status, substep, particle and quantity, in the last substep too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Grid, Model
from physim.sim.rollout import rollout
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm.examine import needs_volume
from physim.solvers.mpm.solver import SolverMPM

DX = 0.1


def made(law: str = "neo_hookean", v: Tensor | None = None) -> SolverMPM:
    line = 0.4 + (torch.arange(4, dtype=torch.float64) + 0.5) * DX / 2
    x = torch.stack(torch.meshgrid(line, line, torch.zeros(1, dtype=torch.float64), indexing="ij"), -1).reshape(-1, 3)
    material = Material(law, rho0=1000.0, values={"E": 1e4, "nu": 0.3})
    model = Model(Grid((0.0, 0.0, 0.0), DX, (12, 12, 1)), torch.full((16,), (DX / 2) ** 2), [material])
    return SolverMPM(model, x, v)


def collapse(rate: float) -> Tensor:
    """Velocities [m/s] towards the middle of the body along x, of this strain rate [1/s]; C follows in one substep."""
    sim = made()
    x = sim.initial_state().x
    return torch.stack([rate * (x[:, 0] - 0.5), torch.zeros(16), torch.zeros(16)], 1)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("substeps", [1, 5])
def test_an_inverted_particle_is_reported_where_it_inverts(substeps: int, keep: bool) -> None:
    sim = made(v=collapse(-200.0))
    state = sim.initial_state()
    state = state.replace(v=state.v.requires_grad_(keep))
    with pytest.raises(RolloutFailure, match=r"deformation gradient F.*volume.*det F = -") as caught:
        sim.advance(state, None, 1e-2, substeps, keep=keep)
    assert caught.value.status is Status.INVERTED
    assert caught.value.substep == 0 and 0 <= caught.value.particle < 16
    assert caught.value.quantity == "deformation gradient F"


def test_a_law_that_passes_through_collapse_goes_on() -> None:
    sim = made("fixed_corotated", collapse(-200.0))
    state = sim.advance(sim.initial_state(), None, 1e-2, 1)
    assert float(torch.linalg.det(state.F).min()) < 0


def test_which_laws_need_a_positive_volume() -> None:
    for name, needed in {"fixed_corotated": False, "stvk": False, "neo_hookean": True, "hencky": True}.items():
        assert needs_volume(Material(name, rho0=1000.0, values={"E": 1e4, "nu": 0.3})) == needed
    assert needs_volume(Material("fluid_tait", rho0=1000.0, values={"bulk_modulus": 1e5}))


@pytest.mark.parametrize(("field", "quantity"), [("h", "history h"), ("F", "deformation gradient F"), ("C", "C")])
def test_a_number_that_is_not_finite_is_named_with_its_particle(field: str, quantity: str) -> None:
    plastic = {"inelastic": "von_mises", "values": {"E": 1e4, "nu": 0.3, "yield_stress": 1e3}}
    sim = made_plastic(plastic)
    state = sim.initial_state()
    broken = getattr(state, field).clone()
    broken[5] = math.nan
    with torch.no_grad(), pytest.raises(RolloutFailure, match="particle 5") as caught:
        sim.advance(state.replace(**{field: broken}), None, 1e-3, 1)
    assert caught.value.status is Status.NONFINITE and quantity in caught.value.quantity


def made_plastic(options: dict) -> SolverMPM:
    sim = made()
    material = Material("hencky", rho0=1000.0, **options)
    model = Model(sim.model.grid, sim.model.vol0, [material])
    return SolverMPM(model, sim.initial_state().x)


def test_a_failure_in_the_last_substep_of_a_rollout_names_the_whole_run_s_substep() -> None:
    """A step beyond the stable one: the body swings until it collapses."""
    sim = made(v=collapse(-5.0))
    with torch.no_grad():
        path = rollout(sim, sim.initial_state(), dt=4e-2, steps=20, every=2, strict=False)
        assert path.failure is not None and path.status is Status.INVERTED
        n = path.failure.substep
        assert n == 2 and len(path.saved) == 2
        assert path.failure.t == pytest.approx(n * 4e-2)
        rollout(sim, sim.initial_state(), dt=4e-2, steps=n, every=n)
        with pytest.raises(RolloutFailure) as caught:
            rollout(sim, sim.initial_state(), dt=4e-2, steps=n + 1, every=n + 1)
    assert caught.value.substep == n and caught.value.particle == path.failure.particle


def test_too_fast_tells_the_numbers() -> None:
    """A body that speeds up after the step was chosen: 60 m/s and 2 ms are 1.2 cells of 0.1 m."""
    sim = made(v=torch.tensor([60.0, 0.0, 0.0], dtype=torch.float64).repeat(16, 1))
    with torch.no_grad(), pytest.raises(RolloutFailure, match=r"60 m/s .* 1\.2 cells .* dt <= 0\.00083") as caught:
        rollout(sim, sim.initial_state(), dt=2e-3, steps=10, every=10)
    assert caught.value.status is Status.TOO_FAST and caught.value.substep == 0


def test_a_falling_body_that_outruns_its_step_is_stopped() -> None:
    """At rest any step passes the check of the start; the fall crosses a cell per substep later."""
    sim = made()
    sim.model.gravity = torch.tensor([0.0, -2e3, 0.0], dtype=torch.float64)
    dt = 6e-3
    with torch.no_grad(), pytest.raises(RolloutFailure) as caught:
        rollout(sim, sim.initial_state(), dt=dt, steps=20, every=4)
    assert caught.value.status is Status.TOO_FAST
    assert caught.value.substep == math.ceil(DX / (2e3 * dt**2)) - 1
