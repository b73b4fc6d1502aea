"""An elastic body whose displacement is a field: its energy, and what it may not enter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from physim.errors import InputError
from physim.laws.material import Material
from physim.sim.model import Collider, ColliderKind
from physim.solvers.insr.fields import Box
from physim.solvers.insr.jets import Index, terms

FIRM = 100.0
"""Stiffness of contact, over the material's stiffest modulus per length of the body."""


class Body(nn.Module):
    """A body that fills a box at rest, of one material whose law states an energy.

    Args:
        material: law, parameters and density.
        box: the body at rest; two axes mean plane strain.
        gravity: [m/s^2], one number for each axis, or what returns them when asked.
        velocity: at t = 0, from positions at rest [m], (n, dim), to [m/s], (n, dim); at rest unless given.
        obstacles: planes and spheres that it may not enter, without friction; their `motion` is followed.
        firm: energy of a penetration g is `firm modulus / length g^2 / 2` per area, with the stiffest modulus of the
            material: contact is as firm for a body that turns out ten times as stiff.

    Raises:
        InputError: the law has no energy or flows, an obstacle is neither plane nor sphere.
    """

    def __init__(
        self,
        material: Material,
        box: Box,
        *,
        gravity: Sequence[float] | Callable[[], Tensor] | None = None,
        velocity: Callable[[Tensor], Tensor] | None = None,
        obstacles: Sequence[Collider] = (),
        firm: float = FIRM,
    ) -> None:
        super().__init__()
        if material.laws.torch_energy() is None:
            raise InputError(
                f"law '{material.elastic.name}' states no energy, which the weight-space solver minimises; take one "
                "that does (`physim material` lists them), or solver: mpm."
            )
        if material.evolves or material.viscous is not None:
            raise InputError("the weight-space solver takes elastic laws only: leave `viscous` and `inelastic` out.")
        for obstacle in obstacles:
            if obstacle.kind not in (ColliderKind.PLANE, ColliderKind.SPHERE):
                raise InputError(f"'{obstacle.name}': the weight-space solver knows planes and spheres.")
            if obstacle.kind is ColliderKind.PLANE and any(obstacle.spin):
                raise InputError(f"'{obstacle.name}': the weight-space solver knows planes that do not turn.")
        self.material, self.box, self.velocity, self.obstacles = material, box, velocity, tuple(obstacles)
        self._gravity = gravity if callable(gravity) else tuple(gravity or (0.0,) * box.dim)
        self._firm, self._known = firm, None
        with torch.no_grad():
            self.stiffest = float(self._stiffness())

    @property
    def firm(self) -> Tensor:
        """Stiffness of contact [Pa/m], (); differentiable in the material's parameters."""
        unit = self._firm / max(self.box.size)
        if torch.is_grad_enabled():
            return unit * self._stiffness()
        # Asked for at every look at the energy, and as long as parameters stay the same number.
        now = [p.detach().clone() for p in self.material.parameters()]
        if self._known is None or not all(map(torch.equal, self._known[0], now)):
            self._known = now, self._stiffness()
        return unit * self._known[1]

    def _stiffness(self) -> Tensor:
        """The stiffest modulus at rest [Pa], ()."""
        found = torch.linalg.eigvalsh(self._tangent(torch.eye(3, dtype=torch.float64)[None])[1]).max()
        return found if torch.is_grad_enabled() else found.detach()

    @property
    def dim(self) -> int:
        """2 or 3."""
        return self.box.dim

    @property
    def gravity(self) -> Tensor:
        """[m/s^2], (dim,)."""
        given = self._gravity() if callable(self._gravity) else torch.tensor(self._gravity)
        return given[: self.dim].double()

    @property
    def wanted(self) -> Sequence[Index]:
        """Displacement and its gradient."""
        return [(0,) * self.dim, *(tuple(int(a == b) for b in range(self.dim)) for a in range(self.dim))]

    @property
    def carried(self) -> Sequence[tuple[Index, float]]:
        """The displacement."""
        return [((0,) * self.dim, 1.0)]

    def deformation(self, q: Tensor) -> Tensor:
        """F = I + du/dX, (n, 3, 3), from derivatives as in `wanted`, (n, dim, 1 + dim)."""
        return nn.functional.pad(q[..., 1:], (0, 3 - self.dim, 0, 3 - self.dim)) + torch.eye(3, dtype=q.dtype)

    def tangent(self, F: Tensor) -> tuple[Tensor, Tensor]:
        """P = dpsi/dF [Pa], (n, dim dim), and dP/dF [Pa], (n, dim dim, dim dim), rows of F one after another."""
        P, stiff = self._tangent(F, keep=False)
        return P.detach(), stiff.detach()

    def _tangent(self, F: Tensor, *, keep: bool = True) -> tuple[Tensor, Tensor]:
        """See `tangent`; `keep`: differentiable in the material's parameters."""
        d = self.box.dim
        with torch.enable_grad():
            F = F.detach().requires_grad_()
            (P,) = torch.autograd.grad(self.material.energy(F).sum(), F, create_graph=True)
            flat = P[:, :d, :d].flatten(1)
            columns = [
                torch.autograd.grad(flat[:, k].sum(), F, retain_graph=True, create_graph=keep)[0] for k in range(d * d)
            ]
            return flat, torch.stack([c[:, :d, :d].flatten(1) for c in columns], dim=1)

    @property
    def local(self) -> Sequence[Index]:
        """Derivatives that `imbalance` reads: to second order."""
        return terms(self.dim, 2).indices

    def imbalance(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Force out of balance, div P + rho g [N/m^3], (n, dim), and the size of its terms, (n,).

        From derivatives as in `local`, (n, dim, k). It is what accelerates a body; at rest, what is left of its
        equation.
        """
        d, place = self.dim, {index: k for k, index in enumerate(self.local)}
        axes = [tuple(int(a == b) for b in range(d)) for a in range(d)]
        twice = [[place[tuple(map(sum, zip(axes[j], axes[k], strict=True)))] for k in range(d)] for j in range(d)]
        first = q[..., [place[(0,) * d], *(place[axis] for axis in axes)]]
        _, stiff = self.tangent(self.deformation(first))
        # dP_ij/dX_j = A_ijkl d2u_k/dX_j dX_l
        bent = torch.stack([torch.stack([q[..., twice[j][k]] for k in range(d)], dim=-1) for j in range(d)], dim=1)
        products = torch.einsum("nijkl,njkl->nijkl", stiff.unflatten(2, (d, d)).unflatten(1, (d, d)), bent)
        weight = self.material.rho0 * self.gravity
        size = products.abs().sum(dim=(2, 3, 4)).square().sum(dim=1).sqrt() + weight.norm()
        return products.sum(dim=(2, 3, 4)) + weight, size

    def gaps(self, x: Tensor, t: float) -> Tensor:
        """Distance of positions [m], (n, dim), from each obstacle at a time, negative inside, (n, obstacles)."""
        found = []
        for obstacle in self.obstacles:
            at, _ = obstacle.motion(t)
            away = x - torch.as_tensor(at[: self.dim], dtype=x.dtype)
            if obstacle.kind is ColliderKind.SPHERE:
                found.append(away.square().sum(dim=1).sqrt() - obstacle.size[0])
            else:
                normal = [row[2] for row in obstacle.rotation][: self.dim]
                found.append(away @ torch.tensor(normal, dtype=x.dtype))
        return torch.stack(found, dim=1) if found else x.new_zeros(len(x), 0)

    @property
    def volume(self) -> float:
        """Of the body at rest [m^3], per metre in 2D."""
        return math.prod(self.box.size)
