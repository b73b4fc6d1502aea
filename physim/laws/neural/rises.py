"""The unit of learned strengths and viscosities: softplus(b + x) - softplus(b), which rises with x from zero at x = 0.

A sum of A rise(b, w . z) never falls in a component of z where every A w is not negative: a positive unit is convex in
it, one with A and w both negative is concave. theta holds exp(b), so that the sum is exactly zero at z = 0.
"""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import numeric, params, real
from physim.tensor import log_1p

# Sums over units are unrolled.
MOST = 16
# Bound by a law: where the columns of its units begin, and how many units there are.
FIRST = HIDDEN = 0


@numeric
def rise(odds: real, x: real) -> real:
    """softplus(b + x) - softplus(b), odds = exp(b)."""
    v = wp.exp(real(-1.0) * wp.abs(x)) - real(1.0)
    # Written from the side where the exponential is small: softplus(b + x) = x + softplus(-b - x) + b.
    return wp.max(x, real(0.0)) + log_1p(wp.where(x > real(0.0), v, odds * v) / (real(1.0) + odds))


@rise.adjoint
def _rise_adjoint(odds: real, x: real, adj_ret: real):
    v = wp.exp(real(-1.0) * wp.abs(x))
    below = wp.where(x > real(0.0), v + odds, real(1.0) + odds * v)
    up = wp.where(x > real(0.0), real(1.0) - v, v - real(1.0))
    wp.adjoint[odds] += adj_ret * up / (below * (real(1.0) + odds))
    wp.adjoint[x] += adj_ret * odds * wp.where(x > real(0.0), real(1.0), v) / below


@rise.for_torch
def _rise_torch(odds, x):
    b, soft = torch.log(odds), torch.nn.functional.softplus
    return soft(b + x, threshold=100.0) - soft(b, threshold=100.0)


@numeric
def rises(x: real, theta: params) -> real:
    """Sum of A rise(b, w x) [-]; theta holds, from column FIRST, the A, then exp(b), then w."""
    total = real(0.0) * x
    for k in range(HIDDEN):
        total = total + theta[FIRST + k] * rise(theta[FIRST + HIDDEN + k], theta[FIRST + 2 * HIDDEN + k] * x)
    return total


@rises.for_torch
def _rises_torch(x, theta):
    outer, odds, inner = theta[FIRST : FIRST + 3 * HIDDEN].reshape(3, HIDDEN)
    return (outer * rise(odds, inner * x)).sum()
