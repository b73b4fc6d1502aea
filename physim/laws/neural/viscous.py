"""A learned viscosity: any positive function of the shear rate."""

from __future__ import annotations

from functools import cache

import torch
import warp as wp
from torch import Tensor

from physim.laws.core import ViscousLaw, register
from physim.laws.fluid import BULK_VISCOSITY
from physim.laws.neural.flow_weights import FlowPlan, FlowWeights, bounded
from physim.laws.neural.rises import rises
from physim.laws.parameters import Param
from physim.numeric import Word, mat33, numeric, params, real
from physim.tensor import deviator, identity, sym

# Bound by a law: the sum of its units.
learned_exponent = Word
# Named columns of theta: viscosity, bulk viscosity, reference rate, least rate. Those of the units follow.
NAMED = 4


@numeric
def neural_viscous_kirchhoff(F: mat33, L: mat33, theta: params) -> mat33:
    """Stress tau = J (2 eta(g) dev D + zeta tr(D) I) [Pa], g = sqrt(2 dev D : dev D) the shear rate [1/s].

    eta = viscosity exp(sum A rise(b, w x)), x = log of sqrt(g^2 + g0^2) over its value at the reference rate, with the
    least rate g0, below which the fluid is Newtonian.
    """
    D = sym(L)
    dev = deviator(D)
    least = theta[3] * theta[3]
    x = real(0.5) * wp.log((real(2.0) * wp.ddot(dev, dev) + least) / (theta[2] * theta[2] + least))
    eta = theta[0] * wp.exp(learned_exponent(x, theta))
    return wp.determinant(F) * (real(2.0) * eta * dev + theta[1] * wp.trace(D) * identity())


class ViscousPlan(FlowPlan):
    """Size of a learned viscosity."""

    family = "neural_viscous"
    inputs = 1

    def make(self, seed: int) -> ViscousWeights:
        """Weights drawn at random, near a constant viscosity."""
        return ViscousWeights(self, seed)


class ViscousWeights(FlowWeights):
    """Raw weights of a learned viscosity, all of either sign."""

    spread = 0.02

    def columns(self, named: Tensor) -> Tensor:
        """Columns of theta after the named ones, (n, size), differentiable.

        Args:
            named: viscosity and bulk viscosity [Pa s], reference rate and least rate [1/s], (n, 4); not read.
        """
        outer, inner, bias = self.rows()
        return self.joined(outer, torch.exp(bounded(bias)), inner[:, :, 0])


PARAMS = (
    Param("viscosity", "Pa s", doc="shear viscosity at the reference rate", typical=2.0),
    BULK_VISCOSITY,
    Param("reference_rate", "1/s", default=1.0, doc="shear rate at which the viscosity is the named one"),
    Param("least_rate", "1/s", 1e-6, default=0.01, doc="shear rate below which the fluid is Newtonian"),
)


def neural_viscous(hidden: int = 8) -> ViscousLaw:
    """The law of a learned viscosity of one size; the same law for the same argument.

    Args:
        hidden: number of units, 1 to 16.
    """
    return _law(ViscousPlan(hidden))


@cache
def _law(plan: ViscousPlan) -> ViscousLaw:
    name = "neural_viscous" if plan == ViscousPlan() else f"neural_viscous_{plan.hidden}"
    exponent = rises.bound(f"_{name}", FIRST=NAMED, HIDDEN=plan.hidden)
    return ViscousLaw(
        name,
        PARAMS,
        neural_viscous_kirchhoff.bound(f"_{name}", learned_exponent=exponent),
        "Bird, Armstrong and Hassager 1987, chapter 4, for generalised Newtonian fluids; the viscosity is a network",
        f"viscosity of {plan.hidden} units in the logarithm of the shear rate",
        network=plan,
    )


default = register(neural_viscous())
