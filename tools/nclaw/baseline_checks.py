"""What `physim check law` measures, on the same states and by the same code, for a baseline's elastic network."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from physim.laws.stiffness import simple_shears
from physim.laws.subject import Check, Subject
from physim.laws.verify import elastic_checks
from physim.numeric import F64
from tools.nclaw.baseline import Baseline
from tools.nclaw.network import Perceptron, kirchhoff
from tools.nclaw.setting import truth

STRAIN = 1e-5
"""Of the differences that moduli at rest are taken from."""


class _Points:
    """A network at points in double precision, as `physim.laws.points.Points` has materials."""

    def __init__(self, net: Perceptron) -> None:
        self._net = Perceptron(torch.Generator()).double()
        self._net.load_state_dict({k: w.double() for k, w in net.state_dict().items()})

    def stress(self, F: Tensor, L: None = None, h: None = None) -> Tensor:
        """Kirchhoff stress [Pa], (n, 3, 3)."""
        with torch.no_grad():
            return kirchhoff(self._net, F)


def checks(baseline: Baseline, samples: int = 10_000, seed: int = 0) -> list[Check]:
    """Objectivity, isotropy, rest, symmetry, closed loops, and moduli at rest by direction, compared with those of the
    material that made the motion.

    The network reads the stretches in order, so it has a kink where they are equal, as at rest: moduli are central
    differences along each strain, not a linear tangent.
    """
    if not isinstance(baseline.law.elastic, Perceptron):
        raise TypeError("the baseline has no elastic network.")
    subject = Subject(truth(baseline.name), F64, samples, seed)
    subject.points = points = _Points(baseline.law.elastic)  # type: ignore[assignment]
    fluid = subject.material.elastic.is_fluid
    stated = SimpleNamespace(energy=None, fibre=False, is_fluid=fluid)
    subject.material = SimpleNamespace(elastic=stated, inelastic=None)  # type: ignore[assignment]
    found = []
    for check in elastic_checks(subject):
        found.append(check)
        if check.property == "closed loops":
            break
    shear, bulk = subject.moduli
    eye = subject.eye(1)

    def slope(E: Tensor) -> Tensor:
        return (points.stress(eye + STRAIN * E) - points.stress(eye - STRAIN * E)) / (2.0 * STRAIN)

    E = subject.normal(200, 3, 3)
    E = 0.5 * (E + E.mT)
    volume = torch.diagonal(E, dim1=1, dim2=2).sum(dim=1)[:, None, None] / 3.0 * eye
    want = 2.0 * shear * (E - volume) + 3.0 * bulk * volume
    size = 2.0 * shear * E.norm(dim=(1, 2)) if shear > 0 else bulk * E.norm(dim=(1, 2))
    error = float(((slope(E) - want).norm(dim=(1, 2)) / size).max())
    note = f"shear modulus {shear:.6g} Pa, bulk modulus {bulk:.6g} Pa in truth"
    found.append(subject.check("tangent at rest", error, 1e-4, note))
    E = simple_shears()
    got = (slope(E) * E).sum(dim=(1, 2))
    low, high = float(got.min()), float(got.max())
    told = f"{low:.6g} to {high:.6g} Pa in {len(got)} directions at rest"
    spread = (high - low) / max(abs(high + low) / 2.0, 1e-30)
    found.append(subject.check("shear modulus", spread, math.inf if fluid else 1e-4, told))
    return found
