"""The incremental potential of a body: what implicit Euler makes least, with slope and curvature in a linear space."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import at
from physim.solvers.insr.fields import Field
from physim.solvers.insr.maps import Weights, rows
from physim.solvers.insr.points import Points
from physim.solvers.insr.tangent import derivatives

GRAVITY = 1
"""Which of `Potential.parts` is gravity's."""


@dataclass(frozen=True)
class Shape:
    """A body's displacement as far as its energy looks at it.

    Attributes:
        q: derivatives as in `Body.wanted`, (n, dim, 1 + dim).
        skin: where its surface is [m], (s, dim); None without obstacles.
    """

    q: Tensor
    skin: Tensor | None


@dataclass(frozen=True)
class Potential:
    """E(u) = int rho/2 |u - past|^2 / dt^2 + psi(I + du/dX) - rho g . u dX + int firm/2 <-gap>^2 dA (Kane et al. 2000).

    Attributes:
        body, field: see there.
        points: where the energy is integrated, weights 1 in all.
        surface: where contact is looked for, weights are areas.
    """

    body: Body
    field: Field
    points: Points
    surface: Points

    def shape(self, flat: Tensor) -> Shape:
        """The displacement at weights; differentiable."""
        q = derivatives(self.field, Weights(flat), self.points.x, self.body.wanted)
        return Shape(q, self.skin(Weights(flat)) if self.body.obstacles else None)

    def moved(self, flat: Tensor, change: Tensor) -> tuple[Shape, Shape]:
        """The displacement at weights, and what a change of these does to it; differentiable in both."""
        count = 1 + self.body.dim
        both = derivatives(self.field, Weights(flat, change), self.points.x, self.body.wanted)
        if not self.body.obstacles:
            return Shape(both[..., :count], None), Shape(both[..., count:], None)
        skin = derivatives(self.field, Weights(flat, change), self.surface.x, self.body.wanted[:1])
        return Shape(both[..., :count], self.surface.x + skin[..., 0]), Shape(both[..., count:], skin[..., 1])

    def skin(self, weights: Weights) -> Tensor:
        """Where the points of the surface are [m], (s, dim)."""
        return self.surface.x + self.displacement(weights, self.surface.x)

    def displacement(self, weights: Weights, x: Tensor) -> Tensor:
        """Displacement [m] of points at rest at `x`, (n, dim)."""
        return derivatives(self.field, weights, x, self.body.wanted[:1])[..., 0]

    def energy(self, shape: Shape, past: Tensor, t: float, dt: float) -> Tensor:
        """E [J] (J/m in 2D), (), at the end of a step from `t` [s]; infinite where the body is inverted at a point.

        Args:
            shape: the displacement.
            past: where the body would go without forces [m], (n, dim).
            t, dt: [s]; an infinite step leaves inertia out.
        """
        parts = self.parts(shape, past, t, dt)
        return torch.stack(parts).sum() if parts else torch.tensor(math.inf, dtype=shape.q.dtype)

    def parts(self, shape: Shape, past: Tensor, t: float, dt: float) -> list[Tensor]:
        """What `energy` adds up: strain, gravity, inertia, contact; nothing where a point is inverted."""
        body = self.body
        F, u = body.deformation(shape.q), shape.q[..., 0]
        if not bool((torch.linalg.det(F.detach()) > 0).all()):
            return []
        densities = [body.material.energy(F), -body.material.rho0 * (u * body.gravity).sum(dim=1)]
        if not math.isinf(dt):
            densities.append(0.5 * body.material.rho0 / dt**2 * (u - past).square().sum(dim=1))
        found = [body.volume * (self.points.weight * density).sum() for density in densities]
        if shape.skin is not None:
            inside = (-body.gaps(shape.skin, end_of(t, dt))).clamp(min=0.0)
            found.append(0.5 * body.firm * (self.surface.weight[:, None] * inside.square()).sum())
        return found

    def at(self, t: float) -> Potential:
        """The same with conditions as they are at a time [s]."""
        return replace(self, field=at(self.field, t))

    def past(self, flat: Tensor, before: Tensor, t: float, dt: float, last: float) -> Tensor:
        """Where the body would go from `t` [s] without forces [m], (n, dim); `last` [s] was the step before, or 0."""
        x, first = self.points.x, self.body.velocity
        now = self.at(t).displacement(Weights(flat), x)
        if math.isinf(dt) or math.isinf(last):
            return now
        if last == 0.0:
            return now + dt * first(x) if first is not None else now
        return now + dt / last * (now - self.at(t - last).displacement(Weights(before), x))

    def pressed(self, flat: Tensor, t: float) -> Tensor:
        """Force of the body on each obstacle at a time [s], (c, 3) [N] (N/m in 2D); differentiable in all."""
        grad = torch.is_grad_enabled()
        with torch.enable_grad():
            skin = self.at(t).skin(Weights(flat))
            skin = skin if skin.requires_grad else skin.requires_grad_()
            gaps, firm, found = self.body.gaps(skin, t), self.body.firm, []
            for gap in gaps.unbind(dim=1):
                (normal,) = torch.autograd.grad(gap.sum(), skin, create_graph=True)
                load = firm * self.surface.weight * (-gap).clamp(min=0.0)
                found.append(-(load[:, None] * normal).sum(dim=0))
            forces = nn.functional.pad(torch.stack(found), (0, 3 - self.body.dim))
        return forces if grad else forces.detach()

    def rms(self, values: Tensor) -> float:
        """Root mean square of vectors at the points."""
        return math.sqrt(float((self.points.weight[:, None] * values.square()).sum()))


@dataclass(frozen=True)
class Space:
    """Displacements that are linear in a change of the weights.

    Attributes:
        potential: of the body.
        flat: the weights, (p,).
        start: the displacement there.
        shown, strained: what each weight does to displacement (dim, n, p) and its gradient (dim dim, n, p), in the
            order of F's entries.
        outside: what each weight does to the surface, (dim, s, p).
    """

    potential: Potential
    flat: Tensor
    start: Shape
    shown: Tensor
    strained: Tensor
    outside: Tensor

    @staticmethod
    def at(potential: Potential, flat: Tensor) -> Space:
        """The space at weights."""
        body, dim, x = potential.body, potential.body.dim, potential.points.x
        values, found = rows(flat, lambda w: derivatives(potential.field, w, x, body.wanted).transpose(1, 2).flatten(1))
        q = values.reshape(-1, 1 + dim, dim).transpose(1, 2)
        strained = found[dim:].unflatten(0, (dim, dim)).transpose(0, 1).flatten(0, 1)
        skin, outside = rows(flat, potential.skin) if body.obstacles else (None, found[:0])
        return Space(potential, flat, Shape(q, skin), found[:dim], strained, outside)

    def moved(self, change: Tensor) -> Shape:
        """The displacement after a change."""
        dim = len(self.shown)
        shown, strained = (self.shown @ change).T, (self.strained @ change).T.unflatten(1, (dim, dim))
        skin = None if self.start.skin is None else self.start.skin + (self.outside @ change).T
        return Shape(self.start.q + torch.cat([shown[..., None], strained], dim=2), skin)

    def scale(self, dt: float) -> float:
        """Mean diagonal of the curvature if the material were equally stiff in all directions [J]."""
        body, weight = self.potential.body, self.potential.points.weight[:, None]
        total = body.stiffest * float((weight * self.strained.square()).sum())
        if not math.isinf(dt):
            total += body.material.rho0 / dt**2 * float((weight * self.shown.square()).sum())
        return body.volume * total / len(self.flat)

    def slope(self, shape: Shape, past: Tensor, t: float, dt: float) -> tuple[Tensor, Tensor]:
        """dE/d(change), (p,), and the exact tangent dP/dF at the points, (n, dim dim, dim dim)."""
        body, weight = self.potential.body, self.potential.points.weight * self.potential.body.volume
        P, stiff = body.tangent(body.deformation(shape.q))
        rho = body.material.rho0
        force = -rho * body.gravity.expand(len(P), -1)
        if not math.isinf(dt):
            force = force + rho / dt**2 * (shape.q[..., 0] - past)
        found = torch.einsum("ni,inp->p", weight[:, None] * P, self.strained)
        found = found + torch.einsum("ni,inp->p", weight[:, None] * force, self.shown)
        for closed, normal, depth, _ in self._touched(shape, t, dt):
            load = self.potential.body.firm * self.potential.surface.weight[closed] * depth
            found = found - torch.einsum("ni,inp->p", load[:, None] * normal, self.outside[:, closed])
        return found, stiff

    def curvature(self, shape: Shape, stiff: Tensor, t: float, dt: float) -> Tensor:
        """Rows A (r, p) with A^T A = d2E/d(change)2, for a positive tangent `stiff` of the law."""
        body, weight = self.potential.body, self.potential.points.weight * self.potential.body.volume
        blocks = [
            (torch.einsum("nij,jnp->nip", root(stiff), self.strained) * weight.sqrt()[:, None, None]).flatten(0, 1)
        ]
        if not math.isinf(dt):
            inert = (body.material.rho0 / dt**2 * weight).sqrt()
            blocks.append((inert[:, None] * self.shown).flatten(0, 1))
        for closed, normal, _, _ in self._touched(shape, t, dt):
            factor = (body.firm * self.potential.surface.weight[closed]).sqrt()
            blocks.append(torch.einsum("ni,inp->np", normal * factor[:, None], self.outside[:, closed]))
        return torch.cat(blocks)

    def bent(self, shape: Shape, t: float, dt: float) -> Tensor:
        """What obstacles that are not plane add to the curvature, (p, p): firm gap d2gap/dx2, negative for a sphere."""
        found = torch.zeros(len(self.flat), len(self.flat), dtype=self.flat.dtype)
        for closed, _, depth, curved in self._touched(shape, t, dt):
            load = self.potential.body.firm * self.potential.surface.weight[closed] * depth
            here = self.outside[:, closed]
            turned = torch.einsum("nij,jnp->inp", -load[:, None, None] * curved, here)
            found += here.flatten(0, 1).T @ turned.flatten(0, 1)
        return found

    def _touched(self, shape: Shape, t: float, dt: float) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each obstacle: which points of the surface are in it, its normal there, how deep they are, d2gap/dx2."""
        if shape.skin is None:
            return []
        found = []
        with torch.enable_grad():
            at = shape.skin.detach().requires_grad_()
            for gap in self.potential.body.gaps(at, end_of(t, dt)).unbind(dim=1):
                (normal,) = torch.autograd.grad(gap.sum(), at, create_graph=True)
                curved = [
                    torch.zeros_like(at)
                    if not n.requires_grad
                    else torch.autograd.grad(n.sum(), at, retain_graph=True)[0]
                    for n in normal.unbind(dim=1)
                ]
                closed = gap.detach() < 0
                bends = torch.stack(curved, dim=1)
                found.append((closed, normal.detach()[closed], -gap.detach()[closed], bends[closed]))
        return found


def root(matrices: Tensor) -> Tensor:
    """R with R^T R the positive part of symmetric matrices (n, k, k)."""
    size, axes = torch.linalg.eigh(matrices)
    return size.clamp(min=0.0).sqrt()[..., None] * axes.transpose(1, 2)


def end_of(t: float, dt: float) -> float:
    """When a step ends [s]; an infinite one looks for the equilibrium as things are at its start."""
    return t if math.isinf(dt) else t + dt
