"""Rivals at equal memory for a pulse and a plane flow: second-order differences on a uniform grid, and waves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import RegularGridInterpolator

Array = NDArray[np.float64]


def pulse_by_differences(start: Callable[[Array], Array], count: int, speed: float, t: float, x: Array) -> Array:
    """A pulse after `t` [s] on a period of [-2, 2]: central differences, Runge-Kutta, linear between nodes."""
    width = 4.0 / count
    at = -2.0 + width * np.arange(count)
    u, steps = start(at), max(1, int(np.ceil(abs(speed) * t / width)))
    dt = t / steps

    def rate(u: Array) -> Array:
        return -speed * (np.roll(u, -1) - np.roll(u, 1)) / (2.0 * width)

    for _ in range(steps):
        k1 = rate(u)
        k2 = rate(u + 0.5 * dt * k1)
        k3 = rate(u + 0.5 * dt * k2)
        u = u + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + rate(u + dt * k3))
    return np.interp(x, np.append(at, 2.0), np.append(u, u[0]))


def pulse_by_waves(start: Callable[[Array], Array], count: int, speed: float, t: float, x: Array) -> Array:
    """The same by `count` waves (2 count + 1 numbers): each turns at its own rate, with no error in time."""
    fine = 16 * count
    at = -2.0 + 4.0 * np.arange(fine) / fine
    k = np.arange(count + 1)
    spectrum = np.fft.rfft(start(at))[: count + 1] / fine * np.where(k == 0, 1.0, 2.0)
    return (np.exp(0.5j * np.pi * np.outer(x + 2.0 - speed * t, k)) @ spectrum).real


def flow_by_differences(
    psi: Callable[[Array, Array], Array], count: int, t: float, dt: float, x: Array
) -> tuple[Array, Array]:
    """Euler flow in [-1, 1]^2 from count^2 values of vorticity: Arakawa's products, five-point Laplacian, Runge-Kutta.

    Returns:
        velocities at positions (n, 2), by central differences of the stream function, linear between nodes; and the
        stream function at the nodes, walls among them.
    """
    width = 2.0 / (count + 1)
    k = np.arange(1, count + 1)
    one = (2.0 * np.sin(0.5 * np.pi * k / (count + 1)) / width) ** 2
    square = one[:, None] + one[None, :]
    at = -1.0 + width * np.arange(count + 2)

    def stream(w: Array) -> Array:
        return fft.idstn(fft.dstn(w, type=1) / square, type=1)

    def beyond(a: Array) -> Array:
        # Zero on the wall, and mirrored with the other sign behind it.
        return np.pad(np.pad(a, 1), 1, mode="reflect", reflect_type="odd")[1:-1, 1:-1]

    def rate(w: Array) -> Array:
        p, q = beyond(stream(w)), beyond(w)
        e, s, n = slice(2, None), slice(None, -2), slice(1, -1)
        first = (p[e, n] - p[s, n]) * (q[n, e] - q[n, s]) - (p[n, e] - p[n, s]) * (q[e, n] - q[s, n])
        second = p[e, n] * (q[e, e] - q[e, s]) - p[s, n] * (q[s, e] - q[s, s])
        second += -p[n, e] * (q[e, e] - q[s, e]) + p[n, s] * (q[e, s] - q[s, s])
        third = q[n, e] * (p[e, e] - p[s, e]) - q[n, s] * (p[e, s] - p[s, s])
        third += -q[e, n] * (p[e, e] - p[e, s]) + q[s, n] * (p[s, e] - p[s, s])
        # dw/dt = psi_x w_y - psi_y w_x.
        return (first + second + third) / (12.0 * width**2)

    inner = psi(*np.meshgrid(at[1:-1], at[1:-1], indexing="ij"))
    w = fft.idstn(fft.dstn(inner, type=1) * square, type=1)
    for _ in range(round(t / dt)):
        k1 = rate(w)
        k2 = rate(w + 0.5 * dt * k1)
        k3 = rate(w + 0.5 * dt * k2)
        w = w + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + rate(w + dt * k3))
    walls = np.pad(stream(w), 1)
    # One more row beyond each wall makes differences central there too.
    more = np.pad(walls, 1, mode="reflect", reflect_type="odd")
    u = (more[1:-1, 2:] - more[1:-1, :-2]) / (2.0 * width)
    v = -(more[2:, 1:-1] - more[:-2, 1:-1]) / (2.0 * width)
    return np.stack([RegularGridInterpolator((at, at), a)(x) for a in (u, v)], axis=1), walls
