"""Everything a law must get right before it is put into a simulation: the engine of `physim check law`.

Each property is measured on the code that simulations run (Warp, in the asked precision) against the law's own torch
reader, its stated energy and moduli, and closed forms. A law inherits every property that applies to its kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from physim.laws.closed_forms import closed_form_checks
from physim.laws.core import ElasticLaw, InelasticLaw, Law, ViscousLaw
from physim.laws.example import example_material
from physim.laws.flow_checks import inelastic_checks, viscous_checks
from physim.laws.material import Material
from physim.laws.reach import Reach
from physim.laws.stiffness import stiffness_checks
from physim.laws.subject import Check, Subject, relative
from physim.numeric import F64, Precision

__all__ = ["Check", "verify"]

_LOOPS, _LOOP_POINTS = 100, 128


def verify(
    law: str | Law | Material,
    precision: Precision = F64,
    *,
    samples: int = 10_000,
    seed: int = 0,
    reach: Reach | None = None,
) -> list[Check]:
    """Measure every property that applies to a law, or to the laws of a material.

    Args:
        law: a law or its name, checked with the typical values of its parameters, or a material with its own.
        precision: F32 or F64, in which stress and return map are evaluated.
        samples: random states or paths for the dissipation; the other properties take a tenth.
        seed: of the random states.
        reach: strains within which moduli by direction and ellipticity are looked at; not unless given.
    """
    whole = isinstance(law, Material)
    material = law if isinstance(law, Material) else example_material(law)
    subject = Subject(material, precision, samples, seed)
    made = material.laws.laws if whole else [law if not isinstance(law, str) else _named(material, law)]
    checks = []
    for part in made:
        if isinstance(part, ElasticLaw):
            checks += [*elastic_checks(subject), *closed_form_checks(subject)]
            checks += [] if reach is None else stiffness_checks(subject, reach)
        elif isinstance(part, ViscousLaw):
            checks += viscous_checks(subject)
        elif isinstance(part, InelasticLaw):
            checks += inelastic_checks(subject)
    return checks


def _named(material: Material, name: str) -> Law:
    return next(part for part in material.laws.laws if part.name == name)


def elastic_checks(subject: Subject) -> Iterator[Check]:
    """Objectivity, isotropy, rest, energy, symmetry and the tangent at rest of the elastic law."""
    F, Q = subject.deformations(), subject.rotations()
    points = subject.points
    h = subject.fibres(len(F))
    tau = points.stress(F, None, h)
    P = subject.pk1(tau, F)
    exact = subject.bar(1e-5, 1e-12)
    turned, mixed = subject.rounded(Q @ F), subject.rounded(F @ Q)
    again = subject.pk1(points.stress(turned, None, h), turned)
    yield subject.check("objectivity", relative(again, Q @ P), exact, "P(QF) = Q P(F)")
    # Fibres, where a law has them, are of the undeformed body and turn with it.
    h_mixed = None if h is None else (h[:, None] @ Q)[:, 0]
    again = subject.pk1(points.stress(mixed, None, h_mixed), mixed)
    yield subject.check(
        "isotropy", relative(again, P @ Q), exact, "P(FQ) = P(F) Q" + (", fibres Q^T a" * (h is not None))
    )
    rest = float(points.stress(subject.eye(1)).abs().max()) / subject.modulus
    yield subject.check("rest state", rest, 1e-6, "P(I) = 0, in moduli")
    yield subject.check("symmetry", float((tau - tau.mT).abs().max() / _rms(tau)), 1e-6, "tau = tau^T")
    yield from _energy(subject, F, P, h)
    yield from _tangent(subject)


def _rms(values: Tensor) -> Tensor:
    return (values * values).sum(dim=(-1, -2)).mean().sqrt()


def _energy(subject: Subject, F: Tensor, P: Tensor, h: Tensor | None) -> Iterator[Check]:
    """P = dpsi/dF by autograd of the stated energy, and no net work over closed loops of strain."""
    if subject.material.elastic.energy is None:
        note = "the law states no energy, so nothing guarantees that it conserves any"
        yield subject.check("energy stated", float("inf"), 0.0, note)
    else:
        F = F.clone().requires_grad_()
        (slope,) = torch.autograd.grad(subject.material.energy(F, h=h).sum(), F)
        yield subject.check("energy", relative(P, slope), subject.bar(1e-5, 1e-10), "P = dpsi/dF")
    yield subject.check("closed loops", _net_work(subject), 1e-6, "net over summed absolute work of a strain cycle")


def _net_work(subject: Subject) -> float:
    """Largest |net work| over the summed absolute work of smooth closed paths of F.

    The trapezoid rule converges exponentially on a periodic path, so what is left is the law's own.
    """
    s = torch.arange(_LOOP_POINTS, dtype=torch.float64) * (2.0 * torch.pi / _LOOP_POINTS)
    F, slope = subject.eye(1).expand(_LOOPS, _LOOP_POINTS, -1, -1).clone(), torch.zeros(_LOOPS, _LOOP_POINTS, 3, 3)
    for k in (1, 2):
        a, b = (0.06 * subject.normal(_LOOPS, 1, 3, 3) for _ in range(2))
        wave, quarter = torch.cos(k * s)[:, None, None], torch.sin(k * s)[:, None, None]
        F, slope = F + a * wave + b * quarter, slope + k * (b * wave - a * quarter)
    flat = F.reshape(-1, 3, 3)
    P = subject.pk1(subject.points.stress(flat), flat)
    work = (P * slope.reshape(-1, 3, 3)).sum(dim=(1, 2)).reshape(_LOOPS, _LOOP_POINTS)
    return float((work.sum(dim=1).abs() / work.abs().sum(dim=1)).max())


def _tangent(subject: Subject) -> Iterator[Check]:
    """Shear and bulk modulus from d(tau)/d(F) at I, by Warp's adjoint, against the stated ones in every direction."""
    tangent = subject.rest_tangent()
    shear, bulk = subject.moduli
    E = subject.normal(200, 3, 3)
    E = 0.5 * (E + E.mT)
    volume = torch.diagonal(E, dim1=1, dim2=2).sum(dim=1)[:, None, None] / 3.0 * subject.eye(1)
    got = (E.reshape(-1, 9) @ tangent.mT).reshape(-1, 3, 3)
    if subject.material.elastic.fibre:
        least = float(((got * E).sum(dim=(1, 2)) / (E * E).sum(dim=(1, 2))).min())
        yield subject.check(
            "stiffness at rest", float(least <= 0.0), 0.0, f"least modulus of 200 strains {least:.6g} Pa"
        )
    else:
        want = 2.0 * shear * (E - volume) + 3.0 * bulk * volume
        size = 2.0 * shear * E.norm(dim=(1, 2)) if shear > 0 else bulk * E.norm(dim=(1, 2))
        error = float(((got - want).norm(dim=(1, 2)) / size).max())
        yield subject.check("tangent at rest", error, 1e-4, f"shear modulus {shear:.6g} Pa, bulk modulus {bulk:.6g} Pa")
    W = subject.normal(50, 3, 3)
    spin = ((W - W.mT).reshape(-1, 9) @ tangent.mT).norm(dim=1).max()
    yield subject.check("no stress from spin", float(spin) / subject.modulus, 1e-5, "d tau/dF : W = 0 at rest")
