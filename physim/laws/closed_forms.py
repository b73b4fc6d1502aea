"""Stresses in closed form: uniaxial strain and simple shear of single laws, incompressible tests of every energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from physim.laws.subject import Check, Subject
from physim.laws.tables import TESTS, Test, table_stress

# tau_11 [Pa] at the stretch s of a bar whose sides cannot move.
UNIAXIAL_STRAIN: dict[str, Callable[[Tensor, dict[str, float]], Tensor]] = {
    "neo_hookean": lambda s, p: p["mu"] * (s**2 - 1) + p["lam"] * torch.log(s),
    "fixed_corotated": lambda s, p: 2 * p["mu"] * (s - 1) * s + p["lam"] * (s - 1) * s,
    "hencky": lambda s, p: (2 * p["mu"] + p["lam"]) * torch.log(s),
    "stvk": lambda s, p: s**2 * (2 * p["mu"] + p["lam"]) * (s**2 - 1) / 2,
    "fluid_quadratic": lambda s, p: p["bulk_modulus"] * s * (s - 1),
    "fluid_tait": lambda s, p: p["bulk_modulus"] / p["exponent"] * (s - s ** (1 - p["exponent"])),
}

# tau_12 and tau_11 - tau_22 [Pa] at the amount of shear g.
SIMPLE_SHEAR: dict[str, Callable[[Tensor, dict[str, float]], tuple[Tensor, Tensor]]] = {
    "neo_hookean": lambda g, p: (p["mu"] * g, p["mu"] * g**2),
    "yeoh": lambda g, p: _in_invariants(g, 2 * p["c1"] + 4 * p["c2"] * g**2 + 6 * p["c3"] * g**4),
    "gent": lambda g, p: _in_invariants(g, p["mu"] / (1 - g**2 / p["locking"])),
    "mooney_rivlin": lambda g, p: _in_invariants(g, 2 * (p["c10"] + p["c01"]) + 0 * g),
}

# Shear stress [Pa] of a steady shear flow of rate g [1/s].
STEADY_SHEAR: dict[str, Callable[[float, dict[str, float]], float]] = {
    "newtonian": lambda g, p: p["viscosity"] * g,
    "kelvin_voigt": lambda g, p: p["viscosity"] * g,
    "herschel_bulkley": lambda g, p: p["yield_stress"] + p["consistency"] * g ** p["flow_index"],
}

# Work conjugate to the nominal stress: how many sides it pulls.
_SIDES: dict[Test, float] = {"uniaxial": 1.0, "equibiaxial": 2.0, "pure_shear": 1.0, "simple_shear": 1.0}


def _in_invariants(g: Tensor, shear: Tensor) -> tuple[Tensor, Tensor]:
    # I1 = I2 = 3 + g^2: tau_12 = 2 (W1 + W2) g, and Rivlin's universal relation tau_11 - tau_22 = g tau_12.
    return shear * g, shear * g**2


def _largest(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def closed_form_checks(subject: Subject) -> Iterator[Check]:
    """The closed forms that exist for the subject's elastic law."""
    material = subject.material
    name = material.elastic.name
    values = material.native()
    if name in UNIAXIAL_STRAIN:
        s = subject.rounded(torch.linspace(0.7, 1.5, 33, dtype=torch.float64))
        F = subject.eye(len(s))
        F[:, 0, 0] = s
        error = _largest(subject.points.stress(F)[:, 0, 0], UNIAXIAL_STRAIN[name](s, values))
        yield subject.check("uniaxial strain", error, 1e-5, "tau_11 in closed form, stretch 0.7 to 1.5")
    if name in SIMPLE_SHEAR:
        g = subject.rounded(torch.linspace(-1.0, 1.0, 33, dtype=torch.float64))
        F = subject.eye(len(g))
        F[:, 0, 1] = g
        tau = subject.points.stress(F)
        shear, difference = SIMPLE_SHEAR[name](g, values)
        error = max(_largest(tau[:, 0, 1], shear), _largest(tau[:, 0, 0] - tau[:, 1, 1], difference))
        yield subject.check("simple shear", error, 1e-5, "tau_12 and tau_11 - tau_22 in closed form")
    if material.elastic.energy is not None and not (material.elastic.is_fluid or material.elastic.fibre):
        error = max(_conjugate(subject, test) for test in TESTS)
        note = "nominal stress = dpsi/d(stretch) along uniaxial, equibiaxial, pure and simple shear at J = 1"
        yield subject.check("incompressible tests", error, 1e-5, note)


def _conjugate(subject: Subject, test: Test) -> float:
    """Nominal stress of a table against the slope of the energy along the same test."""
    s = torch.linspace(0.75, 1.5, 16, dtype=torch.float64).requires_grad_()
    one = torch.ones_like(s)
    sides = {
        "uniaxial": (s, s**-0.5, s**-0.5),
        "equibiaxial": (s, s, s**-2),
        "pure_shear": (s, one, 1 / s),
        "simple_shear": (one, one, one),
    }[test]
    F = torch.diag_embed(torch.stack(sides, dim=1))
    if test == "simple_shear":
        unit = torch.zeros(3, 3, dtype=torch.float64)
        unit[0, 1] = 1.0
        F = F + s[:, None, None] * unit
    (slope,) = torch.autograd.grad(subject.material.energy(F).sum(), s)
    return _largest(table_stress(subject.material, test, s.detach()).detach(), slope / _SIDES[test])
