"""Where a field is to be after a step: one target for the projection, by characteristics or in the tangent space."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from physim.errors import InputError
from physim.solvers.insr.fields import Box, Field
from physim.solvers.insr.implicit import implicit
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.points import Points
from physim.solvers.insr.tangent import Equation, Tangent, carried
from physim.solvers.insr.transport import Transport


class Scheme(Enum):
    """How a step is taken."""

    SEMI_LAGRANGIAN = "semi_lagrangian"
    RUNGE_KUTTA = "runge_kutta"
    IMPLICIT_MIDPOINT = "implicit_midpoint"
    BACKWARD_EULER = "backward_euler"


LATE = {Scheme.IMPLICIT_MIDPOINT: 0.5, Scheme.BACKWARD_EULER: 1.0}
"""Where in a step an implicit scheme takes the rate, 1 at its end."""


def change(scheme: Scheme, tangent: Tangent, flat: Tensor, dt: float) -> Tensor:
    """The change of the weights over `dt` [s], as if the field depended on them linearly, (p,); differentiable.

    In the space u0 + J delta the equation is delta' = J^+ rate(u0 + J delta), whose matrix does not change in a step.
    """
    if scheme is Scheme.RUNGE_KUTTA:
        k1 = tangent.solve(flat, tangent.rate(flat))
        k2 = tangent.solve(flat, tangent.rate(flat, 0.5 * dt * k1))
        k3 = tangent.solve(flat, tangent.rate(flat, 0.5 * dt * k2))
        k4 = tangent.solve(flat, tangent.rate(flat, dt * k3))
        return dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    share = LATE.get(scheme)
    if share is None:
        raise InputError(f"scheme {scheme.value} is not one of the tangent space.")
    return implicit(tangent, flat, dt, share)


def target(
    scheme: Scheme,
    field: Field,
    problem: Equation,
    tangent: Tangent | None,
    flat: Tensor,
    points: Points,
    box: Box,
    dt: float,
) -> tuple[Tensor, Tensor | None]:
    """What is to be reproduced after `dt` [s], (n, m), and the change of the weights that does so to first order."""
    if scheme is Scheme.SEMI_LAGRANGIAN:
        if not isinstance(problem, Transport):
            raise InputError("scheme semi_lagrangian needs a velocity that is given: take runge_kutta.")
        foot = problem.foot(points.x, dt)
        lower, upper = (foot.new_tensor(c) for c in (box.lower, box.upper))
        inside = ((foot >= lower) & (foot <= upper)).all(dim=1, keepdim=True)
        return torch.where(inside, carried(field, problem, Weights(flat), foot), 0.0), None
    assert tangent is not None
    moved = change(scheme, tangent, flat, dt)
    return tangent.values(flat) + tangent.push(flat, moved), moved
