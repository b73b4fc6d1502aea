"""How sure a learned law is of its stress: the covariance of what the stress is linear in, and bands on curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import FitError
from physim.fit.learn.coordinates import Coefficients
from physim.fit.learn.search import Objective
from physim.laws.material import Material
from physim.laws.tables import Test, table_stress

PRIOR = 10.0
"""Standard deviation of a coefficient that the motion says nothing about, in units of the modulus."""
POINTS = 41
SHARES = (1.5, 1.0, 0.7, 0.5, 0.3)
"""Of the strains that were seen: how far curves go, or less far where no test is possible."""


@dataclass(frozen=True)
class Band:
    """Stress over stretch, or over the amount of shear, with a standard deviation.

    Attributes:
        test: which.
        stretch: (m,).
        stress: nominal [Pa], (m,).
        sd: standard deviation [Pa], (m,).
        seen: stretches within which the strains were seen in training.
    """

    test: Test
    stretch: Tensor
    stress: Tensor
    sd: Tensor
    seen: tuple[float, float]


def covariance(objective: Objective, point: Tensor) -> Tensor:
    """Covariance of the coefficients, (k, k), from the residuals that are left.

    Residuals within a run are alike where it is the law that is wrong, not the measurement. So the variance is not
    that of independent values, but larger by as much as the pull on the coefficients differs more between runs.

    Args:
        objective: short runs, nearly linear in the coefficients, one by one.
        point: the coefficients, (k,).
    """
    step = objective.coordinates.step
    eye = torch.eye(len(point), dtype=point.dtype)
    found = objective.linearised(point, step * eye)
    normal, each = found.normal * found.count / step**2, found.each / step
    precision = normal + found.square * eye / PRIOR**2
    root = torch.linalg.cholesky(precision)
    free = each - each.mean(dim=0)
    spread = torch.linalg.solve_triangular(root, free.T, upper=False).square().sum()
    inflation = max(1.0, float(spread) / (found.square * len(point)))
    return found.square * inflation * torch.cholesky_inverse(root)


def told_apart(covariance: Tensor) -> Tensor:
    """Which coefficients the motion says something about, (k,): their variance is well below that of the prior."""
    return covariance.diagonal() < 0.25 * PRIOR**2


def bands(
    material: Material, coordinates: Coefficients, point: Tensor, covariance: Tensor, strain: float
) -> list[Band]:
    """Curves of tension and shear with what is not known of them, to 1.5 times the strains seen where the law allows.

    Args:
        material: with the learned law.
        coordinates: its coefficients.
        point: their values, (k,).
        covariance: theirs, (k, k).
        strain: largest norm of the Hencky strain seen.
    """
    if float(material.elastic.moduli(material.theta().detach()[:, : len(material.elastic.params)])[0]) == 0.0:
        return []  # a fluid
    # Of uniaxial tension at constant volume |log lambda| sqrt(3/2) is the strain; of simple shear half the amount
    # times sqrt(2), for small ones.
    edge, amount = strain / 1.5**0.5, 2.0**0.5 * strain
    log_line = torch.linspace(-edge, edge, POINTS, dtype=torch.float64)
    line = torch.linspace(0.0, amount, POINTS, dtype=torch.float64)
    kinds: list[tuple[Test, Callable[[float], Tensor], tuple[float, float]]] = [
        ("uniaxial", lambda share: torch.exp(share * log_line), (math.exp(-edge), math.exp(edge))),
        ("simple_shear", lambda share: share * line, (0.0, amount)),
    ]
    found = []
    for test, stretches, seen in kinds:
        for share in SHARES:
            theta = coordinates.theta(point[None]).requires_grad_()
            stretch = stretches(share)
            try:
                stress = table_stress(material, test, stretch, incompressible=False, theta=theta)
            except FitError:
                continue  # so far out the law has no free side, and no test is possible
            rows = torch.stack([torch.autograd.grad(s, theta, retain_graph=True)[0][0] for s in stress])
            slopes = torch.stack([coordinates.back(point, row) for row in rows])
            sd = ((slopes @ covariance) * slopes).sum(dim=1).clamp(min=0.0).sqrt()
            found.append(Band(test, stretch, stress.detach(), sd, seen))
            break
    return found
