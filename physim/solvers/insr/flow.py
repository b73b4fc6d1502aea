"""Incompressible flow in the plane by a stream function: no divergence and no pressure, whatever the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from physim.errors import InputError
from physim.laws import Material, ViscousLaw, get_law
from physim.solvers.insr.defect import Balance
from physim.solvers.insr.jets import Index, terms


class Flow(nn.Module):
    """Navier-Stokes and Euler equations for u = (d psi/dy, -d psi/dx), psi the field.

    A step matches the velocity in the least-squares sense over the whole box. What a change of the weights can do has
    no divergence and does not cross the walls, so the gradient of the pressure is orthogonal to all of it and needs
    not be known; this holds as far as the points integrate exactly, which random points do not.

    Args:
        viscosity: dynamic, [Pa s], (); 0 leaves viscous stress out. Or a material, whose `viscosity` is taken.
        density: [kg/m^3]; the material's own where one is given.

    Raises:
        InputError: a material without a constant viscosity.
    """

    def __init__(self, viscosity: Tensor | float | Material = 0.0, density: float = 1.0) -> None:
        super().__init__()
        self.density, self.material = density, None
        if isinstance(viscosity, Material):
            self.material, self.density, self.viscous = viscosity, viscosity.rho0, viscosity.viscous is not None
            if self.viscous and viscosity.viscous is not get_law("newtonian", ViscousLaw):
                raise InputError("the weight-space solver takes fluids of constant viscosity: law newtonian.")
            return
        given = torch.as_tensor(viscosity, dtype=torch.float64)
        self.viscous = bool(given > 0) or given.requires_grad
        self.viscosity = nn.Parameter(given.detach().clone(), requires_grad=given.requires_grad)

    @property
    def kinematic(self) -> Tensor:
        """Viscosity over density [m^2/s], ()."""
        given = self.viscosity if self.material is None else self.material.values()["viscosity"]
        return given / self.density

    @property
    def wanted(self) -> Sequence[Index]:
        """Derivatives that `rate` reads: to second order, to third with viscosity."""
        return terms(2, 3 if self.viscous else 2).indices[1:]

    @property
    def carried(self) -> Sequence[tuple[Index, float]]:
        """What a step matches: the velocity."""
        return [((0, 1), 1.0), ((1, 0), -1.0)]

    def rate(self, q: Tensor) -> Tensor:
        """-(u . grad) u + nu lap u, (n, 2) [m/s^2], from derivatives as in `wanted`, (n, 1, k)."""
        d = {index: q[:, 0, k] for k, index in enumerate(self.wanted)}
        u, v = d[0, 1], -d[1, 0]
        pushed = torch.stack([u * d[1, 1] + v * d[0, 2], -(u * d[2, 0] + v * d[1, 1])], dim=1)
        if not self.viscous:
            return -pushed
        spread = torch.stack([d[2, 1] + d[0, 3], -(d[3, 0] + d[1, 2])], dim=1)
        return self.kinematic * spread - pushed

    @property
    def local(self) -> Sequence[Index]:
        """Derivatives that `balance` reads: one order more."""
        return terms(2, 4 if self.viscous else 3).indices[1:]

    def balance(self, q: Tensor) -> Balance:
        """The equation of the vorticity [1/s], which knows no pressure: w_t = -u . grad w + nu lap w."""
        d = {index: q[:, 0, k] for k, index in enumerate(self.local)}
        u, v = d[0, 1], -d[1, 0]
        along, up = -(d[3, 0] + d[1, 2]), -(d[2, 1] + d[0, 3])
        rate, size = -(u * along + v * up), torch.hypot(u, v) * torch.hypot(along, up)
        if self.viscous:
            bent = torch.stack([d[4, 0], 2.0 * d[2, 2], d[0, 4]])
            rate, size = rate - self.kinematic * bent.sum(dim=0), size + self.kinematic * bent.abs().sum(dim=0)
        return Balance(vorticity(q, self.local)[:, None], rate[:, None], size)


def vorticity(q: Tensor, wanted: Sequence[Index]) -> Tensor:
    """dv/dx - du/dy = -lap psi [1/s], (n,)."""
    place = {index: k for k, index in enumerate(wanted)}
    return -(q[:, 0, place[2, 0]] + q[:, 0, place[0, 2]])
