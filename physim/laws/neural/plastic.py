"""Plastic flow with a learned strength: how large the stress deviator may be at a pressure and after a plastic strain.

|dev tau| <= Y(p, a) = max(0, C(a) + M p + N(max(p, 0), a) - N(0, a)), C(a) = max(0, yield_stress + N(0, a)), with
p = -tr tau/3, the accumulated plastic strain a, the slope M of the friction angle, and N a sum of units that is zero at
p = a = 0 and does not fall in p. Beyond the tip p = -C/M expansion is dropped; the rest of the flow keeps the volume.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import warp as wp
from torch import Tensor
from torch.nn.functional import softplus

from physim.errors import InputError
from physim.laws.core import InelasticLaw, elastic_params, register
from physim.laws.neural.flow_weights import FlowPlan, FlowWeights, bounded
from physim.laws.neural.rises import rise
from physim.laws.neural.weights import INNER
from physim.laws.parameters import Param
from physim.laws.plastic import cone_factor, strained
from physim.numeric import TINY, history, mat33, numeric, params, real
from physim.tensor import deviator, identity, log_1p, log_strain, roundoff

# Bound by a law: how many units there are.
HIDDEN = 0
# Named columns of theta: yield stress, friction angle, stress scale. Those of the units follow.
NAMED = 3
# Least relative outer weight that a fit leaves.
LEAST = 1e-7


@numeric
def learned_strength(p: real, s: real, theta: params) -> real:
    """N: sum of A rise(b, w p + v s) [Pa], s = log(1 + a)."""
    total = real(0.0) * p
    for k in range(HIDDEN):
        x = theta[NAMED + 2 * HIDDEN + k] * p + theta[NAMED + 3 * HIDDEN + k] * s
        total = total + theta[NAMED + k] * rise(theta[NAMED + HIDDEN + k], x)
    return total


@learned_strength.for_torch
def _learned_strength_torch(p, s, theta):
    outer, odds, by_pressure, by_strain = theta[NAMED : NAMED + 4 * HIDDEN].reshape(4, HIDDEN)
    return (outer * rise(odds, by_pressure * p + by_strain * s)).sum()


@numeric
def neural_plastic_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """|dev tau| <= Y(p, a): expansion beyond the tip of Y is dropped, then the deviator shrinks to Y along itself.

    Y is taken at the plastic strain a before the substep, so that nothing is solved for: hardening lags by a substep.
    """
    eps = log_strain(F_trial)
    trace = wp.trace(eps)
    e = deviator(eps)
    size = wp.sqrt(wp.ddot(e, e) + TINY)
    two_mu = real(2.0) * elastic[0]
    bulk = elastic[1] + two_mu / real(3.0)
    sine = wp.sin(theta[1])
    slope = cone_factor(sine) * sine
    s = log_1p(h[0])
    hardening = learned_strength(real(0.0) * s, s, theta)
    cohesion = wp.max(theta[0] + hardening, real(0.0))
    pointed = slope * bulk > roundoff() * two_mu
    tip = cohesion / wp.where(pointed, slope * bulk, real(1.0))
    kept = wp.where(pointed, wp.min(trace, tip), trace)
    p = -bulk * kept
    friction = slope * p + learned_strength(wp.max(p, real(0.0)), s, theta) - hardening
    flow = wp.max(two_mu * size - wp.max(cohesion + friction, real(0.0)), real(0.0)) / two_mu
    change = (-flow / size) * e + ((kept - trace) / real(3.0)) * identity()
    return strained(F_trial, change), history(h[0] + flow)


class PlasticPlan(FlowPlan):
    """Size of a learned strength."""

    family = "neural_plastic"
    inputs = 2

    def make(self, seed: int) -> PlasticWeights:
        """Weights drawn at random, near the strength without units."""
        return PlasticWeights(self, seed)


class PlasticWeights(FlowWeights):
    """Raw weights of a learned strength; `inner` are of pressure and of plastic strain.

    Units rise with pressure, every other one bending up and the rest down, and with plastic strain either way.
    """

    centre = -4.0

    def columns(self, named: Tensor) -> Tensor:
        """Columns of theta after the named ones, (n, size), differentiable.

        Args:
            named: yield stress [Pa], friction angle [rad] and stress scale [Pa], (n, 3).
        """
        scale = named[:, NAMED - 1 : NAMED]
        odds, by_pressure, by_strain = self._insides(scale)
        return self.joined(self._signs() * scale * softplus(self.rows()[0]), odds, by_pressure, by_strain)

    def strengths(self, p: Tensor, a: Tensor, scale: float) -> Tensor:
        """Strength of each unit [Pa] per relative outer weight, (m, hidden): N is linear in these weights.

        Args:
            p: pressures [Pa], (m,); tension counts as none.
            a: accumulated plastic strains [-], (m,).
            scale: stress scale [Pa].
        """
        with torch.no_grad():
            odds, by_pressure, by_strain = self._insides(torch.tensor([[scale]], dtype=torch.float64))
            x = p.clamp(min=0.0)[:, None] * by_pressure + torch.log1p(a)[:, None] * by_strain
            return self._signs() * scale * rise.torch()(odds, x)

    def take(self, outer: Tensor) -> None:
        """Set the relative outer weights, (hidden,), none of them negative.

        Raises:
            InputError: a negative one, with which strength would fall with pressure.
        """
        if bool((outer < 0.0).any()):
            raise InputError(f"outer: {float(outer.min()):g} is negative; fit strengths with bounds.")
        # A unit that the fit leaves out stays so small that it does not count, and can grow again.
        outer = outer.clamp(min=LEAST)
        with torch.no_grad():
            self.outer.copy_(outer + torch.log(-torch.expm1(-outer)))

    def _signs(self) -> Tensor:
        return 1.0 - 2.0 * (torch.arange(self.plan.hidden, dtype=torch.float64) % 2)

    def _insides(self, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns of exp(bias) and of the inner weights of pressure [1/Pa] and plastic strain."""
        _, inner, bias = self.rows()
        sign = self._signs()
        by_pressure, by_strain = softplus(inner[:, :, 0]) / scale, INNER * inner[:, :, 1]
        return torch.exp(bounded(bias)), sign * by_pressure, sign * by_strain


PARAMS = (
    Param("yield_stress", "Pa", doc="norm of the stress deviator at yield without pressure", typical=200.0),
    Param(
        "friction_angle",
        "rad",
        0.0,
        math.pi / 2,
        "logit",
        default=0.0,
        doc="angle of internal friction in triaxial compression, without what is learned",
        typical=math.pi / 6,
    ),
    Param("stress_scale", "Pa", default=1e3, doc="size of pressures and strengths that are learned"),
)


def neural_plastic(hidden: int = 8) -> InelasticLaw:
    """The law of a learned strength of one size; the same law for the same argument.

    Args:
        hidden: number of units, 1 to 16.
    """
    return _law(PlasticPlan(hidden))


@cache
def _law(plan: PlasticPlan) -> InelasticLaw:
    name = "neural_plastic" if plan == PlasticPlan() else f"neural_plastic_{plan.hidden}"
    strength = learned_strength.bound(f"_{name}", HIDDEN=plan.hidden)
    return InelasticLaw(
        name,
        PARAMS,
        neural_plastic_project.bound(f"_{name}", learned_strength=strength),
        "Simo 1992, doi:10.1016/0045-7825(92)90123-2, for the return map; the strength is a network",
        f"plastic flow without dilation, its strength {plan.hidden} units in pressure and plastic strain",
        history=("plastic_strain",),
        rest_history=(0.0,),
        needs=("mu", "lam"),
        network=plan,
    )


default = register(neural_plastic())
