"""Tracked 3D points bound to material points, so that a marker beside the particles moves with the body."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.observe.gauge import Snapshot


@dataclass(frozen=True)
class Tracks:
    """Markers carried by weighted sums of nearby particles; build it with `Tracks.bind`.

    The weights w of a marker p are moving-least-squares shape functions in the reference configuration:
    sum w = 1 and sum w X = p, so every affine motion (translation, rotation, stretch, shear) carries the
    marker exactly, also where it sits outside the particles.

    Attributes:
        neighbours: particles of each marker, (m, k).
        weights: their weights, (m, k).
        reference: marker positions in the reference configuration [m], (m, 3).
        axes: which coordinates are read.
        displacement: read displacements from `reference` instead of positions.
        names: marker names.
        mean: read the mean of the markers instead of each.
    """

    neighbours: Tensor
    weights: Tensor
    reference: Tensor
    axes: tuple[int, ...] = (0, 1, 2)
    displacement: bool = False
    names: tuple[str, ...] = ()
    mean: bool = False

    @staticmethod
    def bind(
        x0: Tensor,
        points: Tensor,
        *,
        candidates: Tensor | None = None,
        axes: tuple[int, ...] = (0, 1, 2),
        displacement: bool = False,
        names: tuple[str, ...] = (),
        mean: bool = False,
        reach: float | None = None,
    ) -> Tracks:
        """Bind markers to particles.

        Args:
            x0: reference positions of all particles [m], (n, 3).
            points: marker positions in the same configuration [m], (m, 3).
            candidates: indices of the particles that may carry a marker (one body); all unless given.
            axes: which coordinates are read.
            displacement: read displacements instead of positions.
            names: marker names; numbers unless given.
            mean: read the mean of the markers instead of each.
            reach: largest allowed distance from a marker to its nearest particle [m]; the extent of the
                candidates unless given.

        Raises:
            InputError: wrong shapes, fewer than two candidates, a marker out of reach, or one that affine
                motion of the particles cannot carry (such as a marker off the plane of a 2D body).
        """
        check_shape("x0", x0, (None, 3))
        check_shape("tracked points", points, (None, 3))
        check_finite("tracked points", points)
        rows = torch.arange(x0.shape[0]) if candidates is None else candidates
        if rows.numel() < 2:
            raise InputError(f"tracked points need at least two particles to hang on, got {rows.numel()}.")
        x = x0.detach()[rows].to(torch.float64).cpu()
        p = points.detach().to(torch.float64).cpu()
        labels = names or tuple(str(i) for i in range(p.shape[0]))
        extent = float((x.amax(0) - x.amin(0)).norm())
        flat = bool((x.amax(0) - x.amin(0)).min() < 1e-9 * extent)
        count = min(rows.numel(), 16 if flat else 40)
        neighbours, weights = [], []
        for i, point in enumerate(p):
            distance = (x - point).norm(dim=1)
            near, order = torch.topk(distance, count, largest=False)
            allowed = extent if reach is None else reach
            if float(near[0]) > allowed:
                raise InputError(
                    f"marker '{labels[i]}' at {_rounded(point)} m is {float(near[0]):.4g} m away from the "
                    f"nearest particle (allowed {allowed:.4g} m): check the units and the frame of the markers."
                )
            neighbours.append(rows[order])
            weights.append(_affine_weights(x[order], point, near, labels[i]))
        return Tracks(torch.stack(neighbours), torch.stack(weights), p, axes, displacement, labels, mean)

    @property
    def columns(self) -> tuple[str, ...]:
        """Marker name and axis of each value; the axis alone for a mean."""
        if self.mean:
            return tuple("xyz"[a] for a in self.axes)
        return tuple(f"{n}.{'xyz'[a]}" for n in self.names for a in self.axes)

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    def positions(self, x: Tensor) -> Tensor:
        """Marker positions [m], (m, 3), for particle positions `x` [m], (n, 3)."""
        near = x[self.neighbours.to(x.device)].to(torch.float64)
        return (self.weights.to(x.device)[..., None] * near).sum(1)

    def read(self, snapshot: Snapshot) -> Tensor:
        """Marker coordinates or displacements [m], (m * axes,), or their mean over the markers, (axes,)."""
        p = self.positions(snapshot.x)
        if self.displacement:
            p = p - self.reference.to(p.device)
        if self.mean:
            p = p.mean(0, keepdim=True)
        return p[:, list(self.axes)].reshape(-1)


def _affine_weights(x: Tensor, point: Tensor, distance: Tensor, label: str) -> Tensor:
    """Weights with sum w = 1 and sum w (x - point) = 0, the smallest in the metric of the distance kernel.

    Minimises sum w^2 / phi under the constraints, with phi = exp(-(2 d / d_max)^2), through the
    pseudo-inverse of the 4x4 moment matrix: in a plane or on a line it is singular, and the missing directions need no
    reproduction.
    """
    radius = float(distance[-1])
    phi = torch.exp(-((2.0 * distance / radius) ** 2))
    basis = torch.cat([torch.ones(len(x), 1, dtype=x.dtype), (x - point) / radius], dim=1)
    moment = basis.T @ (phi[:, None] * basis)
    target = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=x.dtype)
    weights = phi * (basis @ (torch.linalg.pinv(moment, rtol=1e-12, hermitian=True) @ target))
    miss = (basis.T @ weights - target).abs().max()
    if not float(miss) < 1e-7:
        raise InputError(
            f"marker '{label}' at {_rounded(point)} m cannot be carried by the particles: they lie in one "
            "plane or on one line, and the marker does not. In 2D give markers the z of the particles."
        )
    return weights


def _rounded(point: Tensor) -> list[float]:
    return [round(float(c), 6) for c in point]
