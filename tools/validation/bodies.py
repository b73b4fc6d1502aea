"""Lattices of particles, energies and frequencies: what several cases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Model
from physim.sim.state import ParticleState


def lattice(
    lower: Sequence[float],
    upper: Sequence[float],
    spacing: float,
    keep: Callable[[np.ndarray], np.ndarray] | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Cell centres of a lattice between two corners, positions [m], (n, 3), and volumes [m^3], (n,).

    Two coordinates mean plane strain (z = 0, volume per metre of depth); `keep` selects points, (n, 3) -> (n,).
    """
    axes = []
    for low, high in zip(lower, upper, strict=True):
        count = max(1, round((high - low) / spacing))
        axes.append(low + (np.arange(count) + 0.5) * (high - low) / count)
    cell = np.prod([(high - low) / len(a) for low, high, a in zip(lower, upper, axes, strict=True)])
    if len(axes) == 2:
        axes.append(np.zeros(1))
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    if keep is not None:
        x = x[keep(x)]
    return torch.as_tensor(x).to(dtype), torch.full((len(x),), float(cell), dtype=dtype)


def ball(center: Sequence[float], radius: float, spacing: float, **options: torch.dtype) -> tuple[Tensor, Tensor]:
    """A disk (two coordinates) or a ball (three) filled by a lattice through its centre, scaled to the exact volume."""
    dim = len(center)
    at = np.zeros(3)
    at[:dim] = center
    half = np.ceil(radius / spacing) * spacing
    low, high = at[:dim] - half, at[:dim] + half
    x, vol0 = lattice(low, high, spacing, lambda p: ((p - at) ** 2).sum(1) <= radius**2, **options)
    exact = np.pi * radius**2 if dim == 2 else 4 / 3 * np.pi * radius**3
    return x, vol0 * (exact / float(vol0.sum()))


def energies(model: Model, state: ParticleState) -> tuple[float, float]:
    """Kinetic energy with the affine part, and elastic energy [J], of a model with one material."""
    m, D = model.mass.to(torch.float64), model.grid.dx**2 / 4
    v, C = state.v.detach().to(torch.float64), state.C.detach().to(torch.float64)
    kinetic = 0.5 * (m * ((v**2).sum(1) + D * (C**2).sum((1, 2)))).sum()
    material = model.materials[0]
    assert isinstance(material, Material)
    with torch.no_grad():
        elastic = (model.vol0.to(torch.float64) * material.energy(state.F.detach().to(torch.float64))).sum()
    return float(kinetic), float(elastic)


def momenta(model: Model, state: ParticleState, spin_of_C: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Linear [kg m/s] and angular momentum about the origin [kg m^2/s], the affine part included."""
    m = model.mass.to(torch.float64)[:, None]
    x, v, C = (t.detach().to(torch.float64) for t in (state.x, state.v, state.C))
    angular = (m * torch.linalg.cross(x, v)).sum(0)
    if spin_of_C:
        skew = torch.stack([C[:, 2, 1] - C[:, 1, 2], C[:, 0, 2] - C[:, 2, 0], C[:, 1, 0] - C[:, 0, 1]], 1)
        angular = angular + (model.grid.dx**2 / 4 * m * skew).sum(0)
    return (m * v).sum(0).numpy(), angular.numpy()


def damped_frequency(t: np.ndarray, q: np.ndarray, guess: float) -> tuple[float, float]:
    """Frequency [Hz] and decay rate [1/s] of q = exp(-s t) (a cos + b sin) + c, by least squares from `guess` [Hz]."""
    from scipy.optimize import least_squares

    def parts(p: np.ndarray) -> np.ndarray:
        w, s = 2 * np.pi * guess * p[0], guess * p[1]
        decay = np.exp(-s * t)
        basis = np.stack([decay * np.cos(w * t), decay * np.sin(w * t), np.ones_like(t)], 1)
        amplitudes, *_ = np.linalg.lstsq(basis, q, rcond=None)
        return (basis @ amplitudes - q) / np.abs(q).max()

    found = least_squares(parts, [1.0, 0.0], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return guess * float(found.x[0]), guess * float(found.x[1])
