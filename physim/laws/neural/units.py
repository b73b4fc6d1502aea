"""One hidden layer of softplus units, each with its tangent at rest taken off.

A unit of inner weights w and bias b contributes A g(w . z), g(x) = softplus(b + x) - softplus(b) - sigmoid(b) x: zero
with zero slope at x = 0, convex, and of slope between -sigmoid(b) and 1 - sigmoid(b). theta holds, from column FIRST,
the A [Pa], then exp(b), then each component of w. Sums are exactly zero at rest in any precision, whatever the weights.
"""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import numeric, params, real, vec3
from physim.tensor import log_1p

# Bound by a law: where its units' columns begin, and how many units there are.
FIRST = HIDDEN = 0


@numeric
def unit_energy(z: vec3, theta: params) -> real:
    """Sum of A g(w . z) [J/m^3]."""
    total = real(0.0) * z[0]
    for k in range(HIDDEN):
        w = vec3(theta[FIRST + 2 * HIDDEN + k], theta[FIRST + 3 * HIDDEN + k], theta[FIRST + 4 * HIDDEN + k])
        odds = theta[FIRST + HIDDEN + k]
        x = wp.dot(w, z)
        v = wp.exp(real(-1.0) * wp.abs(x)) - real(1.0)
        # Written from the side where the exponential is small: softplus(b + x) = x + softplus(-b - x).
        linear = wp.where(x > real(0.0), x, -odds * x) / (real(1.0) + odds)
        bend = log_1p(wp.where(x > real(0.0), v, odds * v) / (real(1.0) + odds))
        total = total + theta[FIRST + k] * (linear + bend)
    return total


@unit_energy.for_torch
def _unit_energy_torch(z, theta):
    outer, odds, *w = theta[FIRST : FIRST + 5 * HIDDEN].reshape(5, HIDDEN)
    x, b = z @ torch.stack(w), torch.log(odds)
    soft = torch.nn.functional.softplus
    return (outer * (soft(b + x, threshold=100.0) - soft(b, threshold=100.0) - torch.sigmoid(b) * x)).sum()


@numeric
def unit_slopes(z: vec3, theta: params) -> vec3:
    """Sum of A g'(w . z) w [Pa]; g' = sigmoid(b + x) - sigmoid(b)."""
    total = vec3(real(0.0), real(0.0), real(0.0))
    for k in range(HIDDEN):
        w = vec3(theta[FIRST + 2 * HIDDEN + k], theta[FIRST + 3 * HIDDEN + k], theta[FIRST + 4 * HIDDEN + k])
        odds = theta[FIRST + HIDDEN + k]
        x = wp.dot(w, z)
        v = wp.exp(real(-1.0) * wp.abs(x))
        below = wp.where(x > real(0.0), v + odds, real(1.0) + odds * v)
        rise = wp.where(x > real(0.0), real(1.0) - v, v - real(1.0))
        total = total + (theta[FIRST + k] * odds * rise / ((real(1.0) + odds) * below)) * w
    return total


@unit_slopes.for_torch
def _unit_slopes_torch(z, theta):
    outer, odds, *w = theta[FIRST : FIRST + 5 * HIDDEN].reshape(5, HIDDEN)
    inner, b = torch.stack(w), torch.log(odds)
    return inner @ (outer * (torch.sigmoid(b + z @ inner) - torch.sigmoid(b)))


@unit_slopes.adjoint
def _unit_slopes_adjoint(z: vec3, theta: params, adj_ret: vec3):
    # Written out, because a generated adjoint of the loop would keep or repeat every step of it.
    along = vec3()
    weights = params()
    for k in range(HIDDEN):
        w = vec3(theta[FIRST + 2 * HIDDEN + k], theta[FIRST + 3 * HIDDEN + k], theta[FIRST + 4 * HIDDEN + k])
        odds = theta[FIRST + HIDDEN + k]
        outer = theta[FIRST + k]
        x = wp.dot(w, z)
        v = wp.exp(real(-1.0) * wp.abs(x))
        up = real(1.0) + odds
        below = wp.where(x > real(0.0), v + odds, real(1.0) + odds * v)
        slope = odds * wp.where(x > real(0.0), real(1.0) - v, v - real(1.0)) / (up * below)
        curve = v / (below * below)
        y = wp.dot(adj_ret, w)
        turn = outer * y * odds * curve
        along = along + turn * w
        weights[FIRST + k] = y * slope
        weights[FIRST + HIDDEN + k] = outer * y * (curve - real(1.0) / (up * up))
        weights[FIRST + 2 * HIDDEN + k] = outer * slope * adj_ret[0] + turn * z[0]
        weights[FIRST + 3 * HIDDEN + k] = outer * slope * adj_ret[1] + turn * z[1]
        weights[FIRST + 4 * HIDDEN + k] = outer * slope * adj_ret[2] + turn * z[2]
    wp.adjoint[z] += along
    wp.adjoint[theta] += weights
