"""How stiff a law is by direction at rest, and how far its waves travel: what a learned energy does not promise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from physim.laws.reach import Reach, stretched
from physim.laws.stability import acoustic_moduli, directions
from physim.laws.subject import Check, Subject

# Shares of the visited strains at which waves are looked at: the last lie beyond.
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.125, 1.25, 1.375, 1.5)
# Directions of waves, over a half sphere, beside axes, diagonals and principal directions.
NORMALS = 64
# Of the shear modulus: acoustic moduli nearer to zero than this have no sign.
_UNDECIDED = 1e-9


def stiffness_checks(subject: Subject, reach: Reach) -> Iterator[Check]:
    """Moduli at rest by direction, and the slowest wave within the visited strains and 1.5 times beyond."""
    if not subject.material.elastic.is_fluid:
        yield from _by_direction(subject)
    yield from _ellipticity(subject, reach)


def simple_shears() -> Tensor:
    """Symmetric strains of unit shear in planes around each of m directions [-], (3 m, 3, 3)."""
    n = directions()
    other = torch.eye(3, dtype=torch.float64)[n.abs().argmin(dim=1)]
    a = torch.linalg.cross(n, other)
    a = a / a.norm(dim=1, keepdim=True)
    b = torch.linalg.cross(n, a)
    pairs = [_product(n, m) for m in (a, b, (a + b) / math.sqrt(2.0))]
    return torch.cat([0.5 * (p + p.mT) for p in pairs])


def rest_moduli(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Shear moduli (3 m,) and Young's moduli (m,) [Pa] over m directions of d tau/d F at rest, (9, 9)."""
    n = directions()
    shears = simple_shears().reshape(-1, 9)
    shear = torch.einsum("mi,ij,mj->m", shears, tangent, shears)
    # The stiffness of symmetric strains, in an orthonormal basis of them.
    i, j = torch.triu_indices(3, 3)
    basis = torch.zeros(6, 3, 3, dtype=torch.float64)
    basis[torch.arange(6), i, j] = torch.where(i == j, 1.0, math.sqrt(0.5)).double()
    basis = torch.maximum(basis, basis.mT).reshape(6, 9)
    compliance = torch.linalg.inv(basis @ tangent @ basis.mT)
    pull = _product(n, n).reshape(-1, 9) @ basis.mT
    return shear, 1.0 / torch.einsum("mi,ij,mj->m", pull, compliance, pull)


def _product(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]


def _by_direction(subject: Subject) -> Iterator[Check]:
    for kind, found in zip(("shear modulus", "Young's modulus"), rest_moduli(subject.rest_tangent()), strict=True):
        low, high = float(found.min()), float(found.max())
        spread, told = (high - low) / (abs(high + low) / 2.0), f"{low:.6g} to {high:.6g} Pa in {len(found)} directions"
        if subject.material.elastic.fibre:
            yield subject.check(kind, spread, math.inf, f"{told}; fibres may make them differ")
        else:
            yield subject.check(kind, spread, 1e-4, f"{told} at rest")


def _ellipticity(subject: Subject, reach: Reach) -> Iterator[Check]:
    """Acoustic moduli along rays of strain; a fluid has no slow wave, and is asked for its only one."""
    material = subject.material
    fluid = material.elastic.is_fluid
    rays = reach.rays()
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    F = stretched((levels[:, None, None] * rays).reshape(-1, 3))
    share = levels.repeat_interleave(len(rays))
    if material.elastic.fibre:
        Q = subject.rotations(8)
        F, share = (Q[:, None] @ F @ Q.mT[:, None]).reshape(-1, 3, 3), share.repeat(8)
    which = 1 if fluid else 0
    sound = torch.isfinite(material.kirchhoff(F).detach()).flatten(1).all(dim=1)
    modulus = torch.full((len(F),), math.nan, dtype=torch.float64)
    found = acoustic_moduli(material, F[sound], relaxed=True, normals=None if fluid else _half_sphere(NORMALS))
    modulus[sound] = found[:, which] / subject.moduli[which]
    for name, part in (("ellipticity", share <= 1.0), ("ellipticity beyond", share > 1.0)):
        least = modulus[part].min()  # NaN where any of them is
        told = f"slowest wave {float(least):.4g} of the {'bulk' if fluid else 'shear'} modulus"
        told = "no stress at some of the strains" if bool(least.isnan()) else told
        bad = part & ~(modulus > _UNDECIDED)
        if bool(bad.any()):
            first = int(torch.where(bad, share, math.inf).argmin())
            stretches = ", ".join(f"{s:.3g}" for s in torch.linalg.svdvals(F[first]).tolist())
            told += f"; lost first at {float(share[first]):.4g} times the visited strain, stretches {stretches}"
        edge = 1.0 if name == "ellipticity" else LEVELS[-1]
        told += f"; to strain {edge * reach.strain:.3g}"
        # Beyond what it has seen a law is described, not judged.
        worst = math.inf if bool(least.isnan()) else max(0.0, _UNDECIDED - float(least))
        yield subject.check(name, worst, 0.0 if name == "ellipticity" else math.inf, told)


def _half_sphere(n: int) -> Tensor:
    """Unit vectors spread evenly over a half sphere, (n, 3): a Fibonacci spiral."""
    k = torch.arange(n, dtype=torch.float64)
    z = (k + 0.5) / n
    turn = math.pi * (3.0 - math.sqrt(5.0)) * k
    r = (1.0 - z * z).sqrt()
    return torch.stack([r * torch.cos(turn), r * torch.sin(turn), z], dim=1)
