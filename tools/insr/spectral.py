"""Plane flow in a box with slip walls by sine modes: the reference, and a rival at equal memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SineFlow:
    """Navier-Stokes and Euler flow in [-1, 1]^2 with psi = sum c_kl sin(k a) sin(l b), a = pi (x + 1)/2, b alike.

    The flow continued as an odd function is periodic, so that products are formed on a grid of 3/2 as many points as
    waves: nothing is aliased, and no term of the equation is approximated but by leaving waves out.

    Attributes:
        modes: waves along each axis.
        viscosity: kinematic [m^2/s].
    """

    modes: int
    viscosity: float = 0.0

    @property
    def _waves(self) -> tuple[Array, Array, Array]:
        count = fft.next_fast_len(3 * self.modes + 1)
        kx = 0.5 * np.pi * np.fft.fftfreq(count, 1.0 / count)[:, None]
        ky = 0.5 * np.pi * np.fft.rfftfreq(count, 1.0 / count)[None, :]
        most = 0.5 * np.pi * (self.modes + 0.5)
        return kx, ky, (np.abs(kx) < most) & (ky < most)

    def start(self, psi: Callable[[Array, Array], Array]) -> Array:
        """Coefficients of a stream function of x and y, (modes, modes)."""
        count = 4 * self.modes
        at = 4.0 * np.arange(count) / count - 1.0
        # Beyond the wall at x = 1 the function is its mirror image, with the other sign.
        back, sign = np.where(at > 1.0, 2.0 - at, at), np.where(at > 1.0, -1.0, 1.0)
        values = psi(*np.meshgrid(back, back, indexing="ij")) * sign[:, None] * sign
        return -4.0 * fft.rfft2(values)[1 : self.modes + 1, 1 : self.modes + 1].real / count**2

    def advance(self, coefficients: Array, dt: float, steps: int) -> Array:
        """Coefficients after some Runge-Kutta steps of `dt` [s]."""
        kx, ky, kept = self._waves
        count, m = kx.shape[0], self.modes
        square = kx**2 + ky**2
        square[0, 0] = 1.0
        psi = np.zeros((count, count // 2 + 1), dtype=complex)
        psi[1 : m + 1, 1 : m + 1] = -0.25 * coefficients * count**2
        psi[-1 : -m - 1 : -1, 1 : m + 1] = 0.25 * coefficients * count**2
        w = square * psi

        def there(spectrum: NDArray[np.complex128]) -> Array:
            return fft.irfft2(spectrum, s=(count, count))

        def rate(w: NDArray[np.complex128]) -> NDArray[np.complex128]:
            psi = w / square
            pushed = there(1j * ky * psi) * there(1j * kx * w) - there(1j * kx * psi) * there(1j * ky * w)
            return -(kept * fft.rfft2(pushed)) - self.viscosity * square * w

        for _ in range(steps):
            k1 = rate(w)
            k2 = rate(w + 0.5 * dt * k1)
            k3 = rate(w + 0.5 * dt * k2)
            k4 = rate(w + dt * k3)
            w = w + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        return -4.0 * (w / square)[1 : m + 1, 1 : m + 1].real / count**2

    def velocity(self, coefficients: Array, x: Array) -> Array:
        """Velocity at positions (n, 2), by the sum itself, (n, 2)."""
        wave = np.arange(1, self.modes + 1)
        a, b = (0.5 * np.pi * np.outer(x[:, i] + 1.0, wave) for i in (0, 1))
        u = np.einsum("nk,kl,nl->n", np.sin(a), coefficients, wave * np.cos(b), optimize=True)
        v = np.einsum("nk,kl,nl->n", wave * np.cos(a), coefficients, np.sin(b), optimize=True)
        return 0.5 * np.pi * np.stack([u, -v], axis=1)
