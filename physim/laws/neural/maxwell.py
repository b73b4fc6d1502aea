"""Relaxing branches whose dashpots are learned: how much faster they relax in a strained body, or strained themselves.

The relaxation rate of branch i is exp(N(x))/T_i, N a sum of units of either sign that is zero at x = 0. A branch's
elastic strain only ever shrinks along itself, at a rate that is positive, and the energy of its spring falls with it:
no weights make work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.errors import InputError, nearest
from physim.laws.core import InelasticLaw, register
from physim.laws.neural.flow_weights import FlowPlan, FlowWeights, bounded
from physim.laws.neural.rises import rises
from physim.laws.viscoelastic import CITE, SPRINGS, maxwell_law, steady_branch, steady_strain
from physim.numeric import Word, mat33, numeric, params, real
from physim.tensor import log_1p

# Bound by a law: the sum of its units.
learned_rate = Word
MOST_BRANCHES = 6
# Elastic strain of a branch from which its own rate may change.
_SMALL = 0.1


@numeric
def distortion(b: mat33) -> real:
    """log(1 + K1) [-] with K1 = tr b/det(b)^(1/3) - 3."""
    shrink = wp.exp(wp.log(wp.determinant(b)) / real(-3.0))
    return wp.log(wp.trace(b) * shrink - real(2.0))


@numeric
def hasted_by_strain(F: mat33, f: mat33, theta: params) -> real:
    """exp(N(x)), x the mean of log(1 + K1) before and after the substep."""
    old = wp.inverse(f) @ F
    x = real(0.5) * (distortion(F @ wp.transpose(F)) + distortion(old @ wp.transpose(old)))
    return real(1.0) * wp.exp(learned_rate(x, theta))


@numeric
def hasted_by_overstress(e: mat33, theta: params) -> real:
    """exp(N(x)), x = log(1 + h : h/0.01)/2 of the branch before the substep."""
    x = real(0.5) * log_1p(wp.ddot(e, e) / real(_SMALL * _SMALL))
    return real(1.0) * wp.exp(learned_rate(x, theta))


@dataclass(frozen=True)
class MaxwellPlan(FlowPlan):
    """Size and kind of learned relaxation.

    Attributes:
        branches: how many.
        spring: of the branches, "neo_hookean" or "hencky".
        reads: what the rates depend on: "strain" of the body or "overstress" of the branch.
    """

    hidden: int = 4
    branches: int = 2
    spring: str = "neo_hookean"
    reads: str = "strain"
    family = "neural_maxwell"
    inputs = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.branches <= MOST_BRANCHES:
            raise InputError(f"branches: {self.branches!r} is not a number of branches; give 1 to {MOST_BRANCHES}.")
        for name, allowed in (("spring", SPRINGS), ("reads", READS)):
            given = getattr(self, name)
            if given not in allowed:
                raise InputError(f"{name}: '{given}' is not allowed.{nearest(given, allowed)}")

    def make(self, seed: int) -> RateWeights:
        """Weights drawn at random, near constant rates."""
        return RateWeights(self, seed)

    def options(self) -> dict[str, Any]:
        """What the law was asked for."""
        return {"hidden": self.hidden, "branches": self.branches, "spring": self.spring, "reads": self.reads}


class RateWeights(FlowWeights):
    """Raw weights of learned relaxation, all of either sign."""

    spread = 0.02

    def columns(self, named: Tensor) -> Tensor:
        """Columns of theta after the named ones, (n, size), differentiable.

        Args:
            named: modulus [Pa] and relaxation time [s] of each branch, (n, 2 branches); not read.
        """
        outer, inner, bias = self.rows()
        return self.joined(outer, torch.exp(bounded(bias)), inner[:, :, 0])


READS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "strain": lambda rate, suffix: {"strain": hasted_by_strain.bound(suffix, learned_rate=rate)},
    "overstress": lambda rate, suffix: {"branch": hasted_by_overstress.bound(suffix, learned_rate=rate)},
}


def neural_maxwell(
    hidden: int = 4, branches: int = 2, spring: str = "neo_hookean", reads: str = "strain"
) -> InelasticLaw:
    """The law of learned relaxation of one size; the same law for the same arguments.

    Args:
        hidden: number of units, 1 to 16.
        branches: number of branches, 1 to 6, each with a modulus and a relaxation time at rest.
        spring: "neo_hookean" or "hencky".
        reads: rates depend on the "strain" of the body or the "overstress" of the branch.
    """
    return _law(MaxwellPlan(hidden, branches, spring, reads))


@cache
def _law(plan: MaxwellPlan) -> InelasticLaw:
    own = f"neural_maxwell_{plan.branches}_{plan.spring}_{plan.reads}_{plan.hidden}"
    name = "neural_maxwell" if plan == MaxwellPlan() else own
    rate = rises.bound(f"_{name}", FIRST=2 * plan.branches, HIDDEN=plan.hidden)
    factors = {"strain": steady_strain, "branch": steady_branch} | READS[plan.reads](rate, f"_{name}")
    return maxwell_law(
        name,
        plan.branches,
        plan.spring,
        f"{plan.branches} relaxing branches, their rates {plan.hidden} units in the {plan.reads}",
        cite=f"{CITE}; the dashpots are a network",
        network=plan,
        **factors,
    )


default = register(neural_maxwell())
