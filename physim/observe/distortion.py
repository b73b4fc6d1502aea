"""Lens distortion after Brown, as OpenCV writes it, and its inverse."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

Coefficients = tuple[float, float, float, float, float]
"""k1, k2, p1, p2, k3."""

NONE: Coefficients = (0.0, 0.0, 0.0, 0.0, 0.0)

# Accuracy of the inverse, in focal lengths.
CLOSE = 1e-12
ROUNDS = 60


def distort(flat: Tensor, k: Coefficients, reach: float = math.inf) -> Tensor:
    """Where a lens moves the image of a point.

        x'' = x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)
        y'' = y (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 y^2) + 2 p2 x y

    The polynomial means something only where the radius grows with it. From `reach` on, where it would fold points far
    outside of the picture back into it, its value at `reach` holds.

    Args:
        flat: x and y in focal lengths, (..., 2).
        k: k1, k2, p1, p2, k3.
        reach: what `turning_radius` returns.
    """
    k1, k2, p1, p2, k3 = k
    x, y = flat[..., 0], flat[..., 1]
    square = x * x + y * y
    within = square
    if math.isfinite(reach):
        # Far outside, the terms across the radius are held too: they are scaled down to what they are at `reach`.
        within = square.clamp(max=reach * reach)
    radial = 1.0 + within * (k1 + within * (k2 + within * k3))
    if p1 == 0.0 and p2 == 0.0:
        return flat * radial[..., None]
    share = within / square.clamp(min=torch.finfo(flat.dtype).tiny) if math.isfinite(reach) else torch.ones_like(square)
    dx = 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x)
    dy = p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y
    return torch.stack([x * radial + share * dx, y * radial + share * dy], dim=-1)


def turning_radius(k: Coefficients) -> float:
    """The smallest radius, in focal lengths, at which the radial distortion stops to grow, or infinity."""
    k1, k2, _, _, k3 = k
    roots = np.roots([7.0 * k3, 5.0 * k2, 3.0 * k1, 1.0]) if any((k1, k2, k3)) else np.zeros(0)
    real = [float(r.real) for r in roots if abs(r.imag) <= 1e-12 * abs(r) and r.real > 0.0]
    return math.sqrt(min(real)) if real else math.inf


def undistort(flat: Tensor, k: Coefficients, reach: float) -> tuple[Tensor, Tensor]:
    """The inverse of `distort`, by Newton's method to 1e-12; differentiable by the distorted point.

    Args:
        flat: distorted x and y in focal lengths, (..., 2) float64.
        k: k1, k2, p1, p2, k3.
        reach: what `turning_radius` returns.

    Returns:
        x and y, (..., 2), and whether they were found, (...).
    """
    wanted = flat.detach()
    found = wanted.clone()
    if math.isfinite(reach):
        found = found * (0.9 * reach / found.norm(dim=-1, keepdim=True).clamp(min=1e-300)).clamp(max=1.0)
    sound = torch.zeros(found.shape[:-1], dtype=torch.bool, device=found.device)
    for _ in range(ROUNDS):
        step = _solved(_slope(found, k), wanted - distort(found, k))
        fresh = found + step
        radius = fresh.norm(dim=-1, keepdim=True)
        if math.isfinite(reach):
            # A step over the edge goes half the way to it.
            half = 0.5 * (found.norm(dim=-1, keepdim=True) + reach)
            fresh = torch.where(radius >= reach, fresh * half / radius, fresh)
        done = (fresh - found).abs().amax(dim=-1) <= CLOSE * (1.0 + found.abs().amax(dim=-1))
        found = torch.where(torch.isfinite(fresh), fresh, found)
        sound = done & ((wanted - distort(found, k)).abs().amax(dim=-1) <= 10.0 * CLOSE)
        if bool(sound.all()):
            break
    slope = _slope(found, k)
    sound = sound & (torch.linalg.det(slope) > 0.0) & (found.norm(dim=-1) < reach)
    if flat.requires_grad:
        found = found + _solved(slope, flat - wanted)
    return found, sound


def _slope(flat: Tensor, k: Coefficients) -> Tensor:
    """Derivative of `distort` at x and y, (..., 2, 2)."""
    k1, k2, p1, p2, k3 = k
    x, y = flat[..., 0], flat[..., 1]
    square = x * x + y * y
    radial = 1.0 + square * (k1 + square * (k2 + square * k3))
    slope = 2.0 * (k1 + square * (2.0 * k2 + square * 3.0 * k3))
    mixed = slope * x * y + 2.0 * p1 * x + 2.0 * p2 * y
    rows = [
        torch.stack([radial + slope * x * x + 2.0 * p1 * y + 6.0 * p2 * x, mixed], dim=-1),
        torch.stack([mixed, radial + slope * y * y + 6.0 * p1 * y + 2.0 * p2 * x], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def _solved(slope: Tensor, right: Tensor) -> Tensor:
    """Solutions of 2 x 2 systems, not finite where there is none."""
    (a, b), (c, d) = slope[..., 0, :].unbind(-1), slope[..., 1, :].unbind(-1)
    u, v = right.unbind(-1)
    det = a * d - b * c
    return torch.stack([(d * u - b * v) / det, (a * v - c * u) / det], dim=-1)
