"""Patches of a picture found in other pictures: affine Lucas-Kanade, all at once, to hundredths of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

# Rounds of refinement, and the step [px] below which a patch has arrived.
_ROUNDS, _ARRIVED = 20, 2e-3
# Correlation of the errors of neighbouring pixels after compression: so many pixels are worth one.
_WORTH = 4.0


@dataclass(frozen=True, eq=False)
class Patches:
    """Square patches of one picture, and what is needed to find them in others.

    A point x of patch k lies in another picture at p_k + (I + A_k)(x - c_k), with brightness g_k T(x) + b_k there. The
    inverse-compositional step solves for the change of (p, A, g, b) with the patch's own derivatives, whose normal
    matrix is made once (Baker and Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd).

    Attributes:
        offsets: of the pixels of a patch from its centre [px], (n, 2).
        columns: the brightness with respect to (p, A, 1 of the patch, 1), weighted, (m, n, 8).
        solve: from weighted brightness to the eight unknowns, (m, 8, n).
        weight: of each pixel, (m, n).
        spread: variance of the centre per variance of a pixel [px^2 / grey level^2], (m,).
    """

    offsets: Array
    columns: Array
    solve: Array
    weight: Array
    spread: Array

    @staticmethod
    def cut(picture: Spline, centers: Array, radius: int, mask: Array | None = None) -> Patches:
        """Cut patches out of a picture.

        Args:
            picture: brightness.
            centers: of the patches [px], (m, 2).
            radius: half their side [px].
            mask: share of the body in each pixel, (h, w): what is behind it does not move with it.
        """
        side = np.arange(-radius, radius + 1, dtype=np.float64)
        offsets = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        at = centers[:, None, :] + offsets
        value, slope = picture.value(at), picture.slope(at)
        weight = np.exp(-((offsets / (0.7 * radius)) ** 2).sum(axis=1) / 2)[None] * picture.inside(at)
        if mask is not None:
            weight = weight * Spline(mask, order=1).value(at).clip(0.0, 1.0) ** 4
        root = np.sqrt(weight)[..., None]
        affine = (slope[..., :, None] * offsets[:, None, :]).reshape(*slope.shape[:2], 4)
        columns = np.concatenate([slope, affine, value[..., None], np.ones_like(value)[..., None]], axis=2) * root
        normal = columns.transpose(0, 2, 1) @ columns
        # The smallest addition that lets a featureless patch be solved; such a patch is known by its spread.
        scale = np.maximum(np.einsum("mii->mi", normal), 1e-9)
        inverse = np.linalg.inv(normal + 1e-7 * np.einsum("mi,ij->mij", scale, np.eye(8)))
        spread = 0.5 * (inverse[:, 0, 0] + inverse[:, 1, 1])
        return Patches(offsets, columns, inverse @ columns.transpose(0, 2, 1), np.sqrt(weight), spread)

    def chosen(self, keep: np.ndarray[Any, Any]) -> Patches:
        """Some of the patches."""
        return Patches(self.offsets, self.columns[keep], self.solve[keep], self.weight[keep], self.spread[keep])

    def replaced(self, keep: np.ndarray[Any, Any], others: Patches) -> Patches:
        """The same with `others` at the places `keep`."""
        parts = {n: getattr(self, n).copy() for n in ("columns", "solve", "weight", "spread")}
        for name, part in parts.items():
            part[keep] = getattr(others, name)
        return Patches(self.offsets, **parts)

    def find(self, picture: Spline, p: Array, A: Array) -> Found:
        """Refine where the patches are in a picture.

        Args:
            picture: brightness.
            p: first guess of the centres [px], (m, 2).
            A: first guess of their affine change [-], (m, 2, 2).
        """
        p, A = p.copy(), A.copy()
        moving = np.ones(len(p), dtype=bool)
        eye = np.eye(2)
        for _ in range(_ROUNDS):
            k = np.flatnonzero(moving)
            if not len(k):
                break
            at = p[k, None, :] + self.offsets @ (eye + A[k]).transpose(0, 2, 1)
            seen = picture.value(at) * self.weight[k]
            q = np.einsum("mij,mj->mi", self.solve[k], seen)
            gain = np.where(np.abs(q[:, 6]) < 0.05, np.copysign(0.05, q[:, 6]), q[:, 6])
            shift, change = q[:, :2] / gain[:, None], (q[:, 2:6] / gain[:, None]).reshape(-1, 2, 2)
            # One step stays within reach of the linearisation.
            limit = np.minimum(1.0, 1.5 / np.maximum(np.linalg.norm(shift, axis=1), 1e-12))
            shift, change = shift * limit[:, None], np.clip(change * limit[:, None, None], -0.2, 0.2)
            step = (eye + A[k]) @ np.linalg.inv(eye + change)
            p[k] -= np.einsum("mij,mj->mi", step, shift)
            A[k] = step - eye
            moving[k] = np.linalg.norm(shift, axis=1) > _ARRIVED
            moving &= np.isfinite(p).all(axis=1) & (np.abs(A).max(axis=(1, 2)) < 3.0)
        return self._judged(picture, p, A)

    def _judged(self, picture: Spline, p: Array, A: Array) -> Found:
        """How well the patches fit where they were found."""
        fine = np.isfinite(p).all(axis=1) & (np.abs(A).max(axis=(1, 2)) < 3.0)
        error, likeness, uneven = np.full(len(p), np.inf), np.zeros(len(p)), np.ones(len(p))
        k = np.flatnonzero(fine)
        if len(k):
            at = p[k, None, :] + self.offsets @ (np.eye(2) + A[k]).transpose(0, 2, 1)
            weight = self.weight[k]
            seen = picture.value(at) * weight
            q = np.einsum("mij,mj->mi", self.solve[k], seen)
            ones = self.columns[k][:, :, 6:]
            model = np.einsum("mnj,mj->mn", ones, q[:, 6:])
            total = (weight**2).sum(axis=1)
            mean = (seen * weight).sum(axis=1) / total
            variance = ((seen - mean[:, None] * weight) ** 2).sum(axis=1)
            left = ((seen - model) ** 2).sum(axis=1)
            likeness[k] = np.where(q[:, 6] > 0, 1.0 - left / np.maximum(variance, 1e-9), 0.0)
            uneven[k] = self._unevenness((seen - model) ** 2, weight**2)
            pixel = left / total
            error[k] = np.sqrt(_WORTH * pixel * self.spread[k]) / np.maximum(np.abs(q[:, 6]), 0.05)
        return Found(p, A, error, likeness, uneven)

    def _unevenness(self, left: Array, weight: Array) -> Array:
        """What is left unexplained in the worst ninth of a patch over that in the usual one, (m,)."""
        radius = self.offsets.max()
        third = np.clip(((self.offsets + radius) * 3 / (2 * radius + 1)).astype(int), 0, 2)
        cell = np.eye(9)[third[:, 0] * 3 + third[:, 1]]
        share = weight @ cell
        mean = np.where(share > 0.03 * share.sum(axis=1, keepdims=True), left @ cell / np.maximum(share, 1e-9), np.nan)
        return np.nanmax(mean, axis=1) / np.maximum(np.nanmedian(mean, axis=1), 1e-9)


@dataclass(frozen=True, eq=False)
class Found:
    """Where patches were found.

    Attributes:
        p: centres [px], (m, 2).
        A: affine change since the patch was cut [-], (m, 2, 2).
        error: standard deviation of a coordinate from what the patch does not explain [px], (m,); infinite where lost.
        likeness: share of the patch's variance that is explained [-], (m,).
        uneven: how much worse than the rest the worst part of the patch is explained [-], (m,).
    """

    p: Array
    A: Array
    error: Array
    likeness: Array
    uneven: Array


class Spline:
    """A picture between its pixels: cubic splines, whose derivatives are as accurate as its values."""

    def __init__(self, picture: np.ndarray[Any, Any], *, order: int = 3) -> None:
        from scipy.ndimage import spline_filter

        raw = np.asarray(picture, dtype=np.float64)
        self.order = order
        self.coefficients: Array = spline_filter(raw, order=order, mode="mirror") if order > 1 else raw

    def value(self, at: Array) -> Array:
        """Values at positions (x, y) [px], (..., 2) -> (...)."""
        from scipy.ndimage import map_coordinates

        return map_coordinates(
            self.coefficients, [at[..., 1], at[..., 0]], order=self.order, mode="mirror", prefilter=False
        )

    def slope(self, at: Array) -> Array:
        """Derivatives along x and y [per px], (..., 2), by central differences of half a pixel."""
        half = 0.25
        out = np.empty(at.shape)
        for axis in range(2):
            step = np.zeros(2)
            step[axis] = half
            out[..., axis] = (self.value(at + step) - self.value(at - step)) / (2 * half)
        return out

    def inside(self, at: Array) -> Array:
        """One where a position lies in the picture, zero where not, (...)."""
        h, w = self.coefficients.shape[:2]
        return ((at[..., 0] >= 0) & (at[..., 1] >= 0) & (at[..., 0] <= w - 1) & (at[..., 1] <= h - 1)).astype(
            np.float64
        )
