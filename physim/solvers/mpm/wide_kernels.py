"""Stress and return mapping of many particles at once, and the adjoints of both, on a CPU.

Each is launched with one Warp thread and goes through its `count` particles in a loop of its own, which `wide_laws`
writes. Those of one body that share their parameters are given one row of theta, and add to one row of cotangents.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, real

# Bound when a kernel is built: vectors of a law's parameters and of a state's history, and the loop.
params = wide_history = loop = None


def stress(
    F: wp.array(dtype=mat33),
    C: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    theta: wp.array(dtype=params),
    first: int,
    row: int,
    count: int,
    tau: wp.array(dtype=mat33),
):
    """As `kernels.stress`, for all `count` particles in one call."""
    loop(F, C, h, theta, first, row, count, tau)


def stress_adjoint(
    F: wp.array(dtype=mat33),
    C: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    theta: wp.array(dtype=params),
    first: int,
    row: int,
    count: int,
    adj_tau: wp.array(dtype=mat33),
    adj_F: wp.array(dtype=mat33),
    adj_C: wp.array(dtype=mat33),
    adj_h: wp.array(dtype=wide_history),
    adj_theta: wp.array(dtype=params),
):
    """Add the cotangents of F, C, h and theta."""
    loop(F, C, h, theta, first, row, count, adj_tau, adj_F, adj_C, adj_h, adj_theta)


def project(
    F: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    C_out: wp.array(dtype=mat33),
    theta: wp.array(dtype=params),
    first: int,
    row: int,
    count: int,
    dt: real,
    substep: int,
    stray: wp.array(dtype=wp.int32),
    F_out: wp.array(dtype=mat33),
    h_out: wp.array(dtype=wide_history),
):
    """As `kernels.project`, for all `count` particles in one call."""
    if stray[0] < substep:
        return
    loop(F, h, C_out, theta, first, row, count, dt, F_out, h_out)


def project_adjoint(
    F: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    C_out: wp.array(dtype=mat33),
    theta: wp.array(dtype=params),
    first: int,
    row: int,
    count: int,
    dt: real,
    adj_F_out: wp.array(dtype=mat33),
    adj_h_out: wp.array(dtype=wide_history),
    adj_F: wp.array(dtype=mat33),
    adj_h: wp.array(dtype=wide_history),
    adj_C_out: wp.array(dtype=mat33),
    adj_theta: wp.array(dtype=params),
):
    """Add the cotangents of F, h, C_out and theta."""
    loop(F, h, C_out, theta, first, row, count, dt, adj_F_out, adj_h_out, adj_F, adj_h, adj_C_out, adj_theta)
