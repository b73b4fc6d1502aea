"""The bound on a substep by the viscosity: it follows the rate of a thickening fluid, and a marched wave stands it."""

from __future__ import annotations

import pytest
import torch

from physim.laws import Material
from physim.laws.example import example_material
from physim.laws.stability import largest_shear_rate, stable_substep, viscous_modulus

EYE = torch.eye(3, dtype=torch.float64)


def thick(index: float) -> Material:
    values = {"bulk_modulus": 1e4, "yield_stress": 0.0, "consistency": 5.0, "flow_index": index}
    return Material("fluid_quadratic", "herschel_bulkley", "fluid", rho0=1000.0, values=values)


def test_viscous_bound_grows_with_the_rate_of_a_thickening_fluid():
    shear = torch.zeros(2, 3, 3, dtype=torch.float64)
    shear[0, 0, 1] = 50.0
    shear[1] = torch.diag(torch.tensor([20.0, 20.0, 20.0], dtype=torch.float64))  # a change of volume is no shear
    assert largest_shear_rate(shear) == pytest.approx(50.0)
    rates = (0.0, 1.0, 10.0, 100.0)
    bounds = [float(viscous_modulus(thick(1.5), rate=r)) for r in rates]
    assert bounds == sorted(bounds)
    for rate, bound in zip(rates[1:], bounds[1:], strict=True):
        assert bound >= 1.5 * 5.0 * rate**0.5 * 0.999  # d tau/d rate of a shear wave along the flow
        assert bound < 3.0 * 5.0 * rate**0.5
    # Thinning fluids are stiffest at rest, and Newtonian ones do not ask.
    assert float(viscous_modulus(thick(0.6), rate=100.0)) == pytest.approx(float(viscous_modulus(thick(0.6))))
    newtonian = example_material("newtonian")
    grown = float(viscous_modulus(newtonian, 2 ** (1 / 3) * EYE[None]))
    assert grown == pytest.approx(2 * float(viscous_modulus(newtonian)))  # tau = J times the Cauchy stress
    assert float(viscous_modulus(newtonian, rate=100.0)) == pytest.approx(float(viscous_modulus(newtonian)))
    F = EYE.expand(10, -1, -1)
    slow, fast = (stable_substep(thick(1.5), F, 0.01, dim=2, rate=r) for r in (0.0, 1e4))
    assert fast < 0.2 * slow


def test_viscous_bound_stands_a_marched_shear_wave():
    """A wave on a fast shear flow dies out below the bound at that rate, and grows at the bound at rest."""
    n, dx, rate, rho = 32, 0.01, 1e4, 1000.0
    fluid = thick(1.5)
    tau = torch.vmap(fluid.viscous.kirchhoff.torch(), in_dims=(None, 0, None)) if fluid.viscous else None
    assert tau is not None
    start, end = fluid.laws.columns()["V"]
    theta = fluid.theta().detach()[0, start:end]

    def grown(dt: float) -> float:
        v = 1e-3 * torch.cos(torch.pi * torch.arange(n, dtype=torch.float64))
        before = float(v.abs().max())
        for _step in range(3):
            L = torch.zeros(n, 3, 3, dtype=torch.float64)
            L[:, 0, 1] = rate + (torch.roll(v, -1) - v) / dx
            s = tau(EYE, L, theta)[:, 0, 1]
            v = v + dt / rho * (s - torch.roll(s, 1)) / dx
        return float(v.abs().max()) / before

    dt = {r: stable_substep(fluid, EYE[None], dx, dim=1, rate=r) for r in (0.0, rate)}
    assert grown(dt[rate]) < 1.0
    assert grown(dt[0.0]) > 10.0
