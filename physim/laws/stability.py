"""How stiff and how viscous a material is at a state: bounds for the explicit time step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physim.laws.material import Material
from physim.laws.reach import REACH

# Fraction of the linear stability limit that is left to deformation within the step and to the particles' positions.
SAFETY = 0.6
# Deformations that are looked at: those with the largest and smallest stretch and volume.
PROBES = 16
# Shear rates that are looked at below the largest, each half of the one before.
LADDER = 12


def directions() -> Tensor:
    """Unit vectors: axes, face and space diagonals, (13, 3)."""
    steps = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3).double()
    half = steps[[i for i, s in enumerate(steps.tolist()) if s > [0.0, 0.0, 0.0]]]
    return half / half.norm(dim=1, keepdim=True)


def _eigenvalues(tangent: Tensor, normals: Tensor) -> Tensor:
    """Eigenvalues (m, 3 d) of the acoustic tensor a_ijkl n_j n_l [Pa]; a: (m, 3, 3, 3, 3), n: (m, d, 3)."""
    acoustic = torch.einsum("mijkl,mdj,mdl->mdik", tangent, normals, normals)
    return torch.linalg.eigvalsh(0.5 * (acoustic + acoustic.mT)).flatten(1)


def wave_modulus(material: Material, F: Tensor, theta: Tensor | None = None, *, relaxed: bool = False) -> Tensor:
    """Acoustic modulus rho0 c^2 [Pa], (m,), of the fastest wave in the current configuration; at least 0.

    Args:
        material: laws and parameters.
        F: deformation gradients [-], (m, 3, 3).
        theta: native parameters, (1, k) or (m, k).
        relaxed: without the overstress, as in a slow motion.
    """
    return acoustic_moduli(material, F, theta, relaxed=relaxed)[:, 1].clamp(min=0.0)


def acoustic_moduli(
    material: Material,
    F: Tensor,
    theta: Tensor | None = None,
    *,
    relaxed: bool = False,
    normals: Tensor | None = None,
) -> Tensor:
    """Acoustic moduli rho0 c^2 [Pa], (m, 2), of the slowest and the fastest wave in the current configuration.

    The least and largest eigenvalue of the acoustic tensor of d tau/d(increment) over the axes, diagonals and principal
    directions, with the inelastic map's instantaneous (dt = 0) overstress included and its flow left out.

    Args:
        material: laws and parameters.
        F: deformation gradients [-], (m, 3, 3).
        theta: native parameters, (1, k) or (m, k).
        relaxed: without the overstress, as in a slow motion.
        normals: unit vectors of waves that are looked at too, (d, 3).
    """
    F = F.detach().double().cpu()
    m = F.shape[0]
    theta = (material.theta() if theta is None else theta).detach().expand(m, -1)
    laws = material.laws
    elastic = laws.torch_elastic()
    over = laws.inelastic.overstress.torch() if laws.inelastic and laws.inelastic.overstress else None
    over = None if relaxed else over
    project = laws.torch_project()
    rest = material.rest_history(1)[0]

    def pulled(f: Tensor, F0: Tensor, columns: Tensor) -> Tensor:
        # First Piola-Kirchhoff stress relative to the current configuration, whose tangent is the acoustic one.
        tau = elastic(f @ F0, rest, columns)
        if over is not None:
            now = project(f @ F0, rest, f, columns, torch.zeros((), dtype=torch.float64))
            first, last = laws.columns()["I"]
            tau = tau + over(now[0], now[1], columns[first:last])
        return tau @ torch.linalg.inv(f).mT

    eye = torch.eye(3, dtype=torch.float64)
    tangent = torch.vmap(torch.func.jacrev(pulled), in_dims=(None, 0, 0))(eye, F, theta)
    principal = torch.linalg.eigh(F @ F.mT).eigenvectors.mT
    more = directions() if normals is None else torch.cat([directions(), normals])
    values = _eigenvalues(tangent, torch.cat([more.expand(m, -1, -1), principal], dim=1))
    return torch.stack([values.amin(dim=1), values.amax(dim=1)], dim=1)


def strains_within(size: float, steps: int = 2) -> Tensor:
    """Principal deformations of Hencky strains and volume strain from -size to size, each kind once, (m, 3, 3)."""
    levels = torch.arange(-steps, steps + 1, dtype=torch.float64)
    found = torch.combinations(levels, 3, with_replacement=True)
    return torch.diag_embed(torch.exp(size / steps * found[found.sum(dim=1).abs() <= steps]))


def reach_share(material: Material, strain: float = REACH) -> float:
    """Stable dt of a learned law within strains of this size over that at rest; at most 1, and 1 for other laws.

    Their moduli at rest say nothing about how they stiffen. Evaluate it again where weights change by much.
    """
    if material.network is None:
        return 1.0
    theta = material.theta().detach()
    if theta.shape[0] > 1:
        scale = theta.abs().amax(dim=0).clamp(min=1e-300)
        theta = theta[(theta / scale).sum(dim=1).topk(min(PROBES, theta.shape[0])).indices]
    F = strains_within(strain)
    there = [wave_modulus(material, F, row[None]).max() for row in theta]
    rest = wave_modulus(material, torch.eye(3, dtype=torch.float64).expand(len(theta), 3, 3), theta)
    return min(1.0, math.sqrt(float((rest / torch.stack(there)).min())))


def largest_shear_rate(L: Tensor) -> float:
    """Largest shear rate sqrt(2 dev D : dev D) [1/s] of velocity gradients L [1/s], (n, 3, 3), D = sym L."""
    D = 0.5 * (L + L.mT)
    dev = D - torch.diagonal(D, dim1=1, dim2=2).mean(dim=1)[:, None, None] * torch.eye(
        3, dtype=L.dtype, device=L.device
    )
    return float(dev.detach().norm(dim=(1, 2)).max()) * math.sqrt(2.0)


def viscous_modulus(
    material: Material, F: Tensor | None = None, theta: Tensor | None = None, *, rate: float = 0.0
) -> Tensor:
    """Largest viscosity [Pa s], (m,), that multiplies a plane wave's strain rate in a flow of shear rates to `rate`.

    A fluid that thins is stiffest at rest, one that thickens at the largest rate; between the two a ladder of rates
    is looked at. The wave of most resistance runs along the gradient of the flow.

    Args:
        material: laws and parameters.
        F: deformation gradients [-], (m, 3, 3), undeformed unless given; tau grows with the volume.
        theta: native parameters, (1, k) or (m, k).
        rate: largest shear rate [1/s] of the flow, see `largest_shear_rate`.
    """
    theta = (material.theta() if theta is None else theta).detach()
    F = torch.eye(3, dtype=torch.float64)[None] if F is None else F.detach().double().cpu()
    law, m = material.viscous, max(F.shape[0], theta.shape[0])
    if law is None:
        return torch.zeros(m, dtype=torch.float64)
    start, end = material.laws.columns()["V"]
    stress = law.kirchhoff.torch()
    steps = [0.0, *(rate * 2.0**-k for k in range(LADDER))] if rate > 0.0 else [0.0]
    flow = torch.zeros(len(steps), 3, 3, dtype=torch.float64)
    flow[:, 0, 1] = torch.tensor(steps, dtype=torch.float64)
    slope = torch.func.jacrev(lambda L, F, columns: stress(F, L, columns))
    slopes = torch.vmap(torch.vmap(slope, in_dims=(0, None, None)), in_dims=(None, 0, 0))
    tangent = slopes(flow, F.expand(m, 3, 3), theta[:, start:end].expand(m, -1))
    found = _eigenvalues(tangent.flatten(0, 1), directions().expand(m * len(steps), -1, -1))
    return found.reshape(m, -1).amax(dim=1).clamp(min=0.0)


def _extremes(F: Tensor) -> Tensor:
    """Indices of the deformations with the largest and smallest stretch and volume."""
    if F.shape[0] <= PROBES:
        return torch.arange(F.shape[0])
    stretch = torch.linalg.svdvals(F)
    keys = (stretch[:, 0], -stretch[:, 2], stretch.prod(dim=1), -stretch.prod(dim=1))
    found = [k.topk(PROBES // len(keys)).indices for k in keys]
    return torch.unique(torch.cat(found))


def stable_substep(
    material: Material,
    F: Tensor,
    dx: float,
    *,
    dim: int,
    theta: Tensor | None = None,
    rate: float = 0.0,
    safety: float = SAFETY,
) -> float:
    """Largest safe explicit substep [s] on a grid of spacing dx [m]; inf for a material without stiffness.

    A wave of modulus M and viscosity V has at most the frequency w = 2 sqrt(dim M/rho0)/dx and the damping rate
    r = 4 dim V/(rho0 dx^2); the central difference of w with lagged damping is stable below
    2 (sqrt(1 + z^2) - z)/w with z = r/(2 w).

    Args:
        material: laws and parameters.
        F: deformation gradients of its particles [-], (n, 3, 3).
        dx: grid spacing [m].
        dim: 2 or 3.
        theta: native parameters, (1, k) or (n, k); those of the material unless given.
        rate: largest shear rate [1/s] of the flow, for viscosities that depend on it.
        safety: fraction of that limit.
    """
    theta = (material.theta() if theta is None else theta).detach()
    F = F.detach().double().cpu()
    # Per-particle parameters: every combination of the extreme states and the stiffest columns is covered by
    # looking at the extremes of both.
    if theta.shape[0] > 1:
        scale = theta.abs().amax(dim=0).clamp(min=1e-300)
        worst = (theta / scale).sum(dim=1).topk(min(PROBES, theta.shape[0])).indices
        chosen = torch.unique(torch.cat([_extremes(F), worst]))
        F, theta = F[chosen], theta[chosen]
    else:
        F = F[_extremes(F)]
    modulus = float(wave_modulus(material, F, theta).max())
    viscosity = float(viscous_modulus(material, F, theta, rate=rate).max())
    rate = 4.0 * dim * viscosity / (material.rho0 * dx * dx)
    w = 2.0 * math.sqrt(dim * modulus / material.rho0) / dx
    if w == 0.0:
        return safety * 2.0 / rate if rate > 0.0 else math.inf
    z = rate / (2.0 * w)
    return safety * 2.0 / w / (math.sqrt(1.0 + z * z) + z)
