"""Stress-stretch curves of a material without simulation: the tests that laboratories do.

One derivation serves every law. The deformation is F = diag(s1, s2, s3), or a simple shear. For an incompressible
body J = 1 and the pressure that keeps it so is found from the stress-free side: P_i = (tau_i - tau_3)/s_i. For a
compressible one the free stretch is found from tau_3 = 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from physim.checks import check_shape
from physim.errors import FitError, InputError
from physim.laws.material import Material

Test = Literal["uniaxial", "equibiaxial", "pure_shear", "simple_shear"]
Measure = Literal["nominal", "cauchy"]
TESTS: tuple[Test, ...] = ("uniaxial", "equibiaxial", "pure_shear", "simple_shear")

_NEWTON = 60
_TOLERANCE = 1e-12


def table_stress(
    material: Material,
    test: Test,
    stretch: Tensor,
    *,
    incompressible: bool = True,
    measure: Measure = "nominal",
    theta: Tensor | None = None,
) -> Tensor:
    """Stress [Pa], (m,), in a test at the given stretches; differentiable with respect to the parameters.

    Args:
        material: its elastic law is used; viscous and inelastic laws do not act in a slow test.
        test: uniaxial (sides free), equibiaxial (thickness free), pure_shear (one side held, thickness free) or
            simple_shear.
        stretch: stretch [-] of the loaded direction, or the amount of shear [-], (m,).
        incompressible: J = 1 whatever the bulk modulus; otherwise the law's own volume change.
        measure: nominal, force per undeformed area P, or cauchy, force per deformed area.
        theta: native parameters (1, k); the material's own unless given.

    Raises:
        InputError: unknown test, or a stretch that is not positive and finite.
        FitError: no stress-free thickness exists for a compressible law.
    """
    check_shape("stretch", stretch, (None,))
    if test not in TESTS:
        raise InputError(f"'{test}' is not a test. Allowed: {', '.join(TESTS)}.")
    theta = material.theta() if theta is None else theta
    s = stretch.to(torch.float64)
    if not bool(torch.isfinite(s).all()):
        raise InputError(f"stretch: row {int(torch.isfinite(s).int().argmin())} is not finite.")
    if test == "simple_shear":
        return _elastic_stress(material, sheared(s), theta)[:, 0, 1]
    if bool((s <= 0).any()):
        raise InputError(f"stretch: {float(s.min()):g} is not a stretch; it must be above 0 (1 is undeformed).")
    free = isochoric(test, s) if incompressible else _stress_free(material, test, s, theta)
    tau = torch.diagonal(_elastic_stress(material, stretched(test, s, free), theta), dim1=1, dim2=2)
    along = tau[:, 0] - tau[:, 2] if incompressible else tau[:, 0]
    if measure == "nominal":
        return along / s
    volume = 1.0 if incompressible else torch.linalg.det(stretched(test, s, free))
    return along / volume


def table_deformation(
    material: Material, test: Test, stretch: Tensor, *, incompressible: bool = True, theta: Tensor | None = None
) -> Tensor:
    """Deformation gradients of the rows of a test, (m, 3, 3); arguments as in `table_stress`."""
    if incompressible or test == "simple_shear":
        return incompressible_strain(test, stretch)
    s = stretch.to(torch.float64)
    return stretched(test, s, _stress_free(material, test, s, material.theta() if theta is None else theta))


def incompressible_strain(test: Test, stretch: Tensor) -> Tensor:
    """Deformation gradients of the rows of a test of any incompressible material, (m, 3, 3)."""
    s = stretch.to(torch.float64)
    return sheared(s) if test == "simple_shear" else stretched(test, s, isochoric(test, s))


def _elastic_stress(material: Material, F: Tensor, theta: Tensor) -> Tensor:
    if material.elastic.fibre:
        raise InputError(
            f"{material.composition}: these tests are of isotropic materials; `Material.kirchhoff` tells the stress of "
            "one with fibres."
        )
    reader = torch.vmap(material.laws.torch_elastic())
    n = F.shape[0]
    return reader(F, material.rest_history(n), theta.expand(n, -1))


def sheared(amount: Tensor) -> Tensor:
    """F of simple shear, (n, 3, 3)."""
    F = torch.eye(3, dtype=torch.float64).expand(len(amount), -1, -1).clone()
    F[:, 0, 1] = amount
    return F


def stretched(test: Test, s: Tensor, free: Tensor) -> Tensor:
    """F of a test with loaded stretch s and stress-free stretch `free`."""
    second = {"uniaxial": free, "equibiaxial": s, "pure_shear": torch.ones_like(s)}[test]
    return torch.diag_embed(torch.stack([s, second, free], dim=1))


def isochoric(test: Test, s: Tensor) -> Tensor:
    """The free stretch of a test that keeps the volume."""
    return s ** {"uniaxial": -0.5, "equibiaxial": -2.0, "pure_shear": -1.0}[test]


def _stress_free(material: Material, test: Test, s: Tensor, theta: Tensor) -> Tensor:
    """The free stretch at which tau_3 = 0, by Newton's method on its logarithm.

    The last step is taken with the graph, which makes the first derivative that of the implicit function.
    """

    def residual(log_free: Tensor, parameters: Tensor) -> Tensor:
        return _elastic_stress(material, stretched(test, s, torch.exp(log_free)), parameters)[:, 2, 2]

    def slope(log_free: Tensor, parameters: Tensor) -> Tensor:
        # Each residual depends on its own stretch only, so the gradient of the sum holds all the slopes.
        return torch.func.grad(lambda x: residual(x, parameters).sum())(log_free)

    shear, bulk = (float(m.max()) for m in material.elastic.moduli(theta.detach()))
    scale = shear + bulk
    x, fixed = torch.log(isochoric(test, s)), theta.detach()
    for _step in range(_NEWTON):
        r = residual(x, fixed)
        if bool((r.abs() < _TOLERANCE * scale).all()):
            break
        x = x - (r / slope(x, fixed)).clamp(-0.2, 0.2)
    else:
        worst = int(residual(x, fixed).abs().argmax())
        raise FitError(
            f"{material.composition}: no stress-free side in the {test} test at stretch {float(s[worst]):g}; "
            "the law is unstable there. Use incompressible: true, or a smaller range."
        )
    return torch.exp(x - residual(x, theta) / slope(x, fixed).detach())
