"""What a property check works on: a material in Warp, random states, and the words of its verdict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError
from physim.laws.material import Material
from physim.laws.points import Points
from physim.numeric import F64, Precision


@dataclass(frozen=True)
class Check:
    """One measured property.

    Attributes:
        property: its name.
        value: what was measured; 0 is perfect.
        bar: the largest value that passes.
        passed: whether it does; a value that is not finite does not.
        note: what the value means.
    """

    property: str
    value: float
    bar: float
    passed: bool
    note: str


def relative(got: Tensor, want: Tensor) -> float:
    """Largest difference of matrices (m, 3, 3), over the size of `want` and at least its root mean square."""
    size = want.norm(dim=(1, 2))
    return float(((got - want).norm(dim=(1, 2)) / torch.maximum(size, (size * size).mean().sqrt())).max())


class Subject:
    """A material under examination.

    Args:
        material: with scalar parameters.
        precision: of the evaluation.
        samples: random paths for the dissipation; other properties take a tenth of them.
        seed: of the random states.
    """

    def __init__(self, material: Material, precision: Precision, samples: int, seed: int) -> None:
        self.material, self.precision, self.samples = material, precision, samples
        self.points = Points(material, precision)
        self._generator = torch.Generator().manual_seed(seed)
        start, end = material.laws.columns()["E"]
        shear, bulk = material.elastic.moduli(material.theta().detach()[0, start:end])
        self.moduli = float(shear), float(bulk)
        self.modulus = sum(self.moduli)
        if not self.modulus > 0.0:
            raise InputError(f"{material.composition}: no stiffness at rest; give it a modulus above 0.")

    @property
    def roundoff(self) -> float:
        """Unit roundoff of the precision."""
        return torch.finfo(self.precision.torch).eps

    def bar(self, single: float, double: float) -> float:
        """The bar of this precision."""
        return double if self.precision is F64 else single

    def check(self, name: str, value: float, bar: float, note: str) -> Check:
        """A verdict; NaN does not pass."""
        return Check(name, value, bar, bool(value <= bar), note)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, dtype=torch.float64, generator=self._generator)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in 0..1."""
        return torch.rand(*shape, dtype=torch.float64, generator=self._generator)

    def eye(self, n: int) -> Tensor:
        """Unit matrices, (n, 3, 3)."""
        return torch.eye(3, dtype=torch.float64).expand(n, -1, -1).clone()

    def rounded(self, values: Tensor) -> Tensor:
        """The nearest values that the precision holds, so that rounding of the input is not counted as an error."""
        return values.to(self.precision.torch).double()

    def in_plane(self, A: Tensor) -> Tensor:
        """A with its z row and column cleared, if the return map holds in the x-y plane only."""
        law = self.material.inelastic
        if law is None or not law.plane:
            return A
        mask = torch.zeros(3, 3, dtype=torch.float64)
        mask[:2, :2] = 1.0
        return A * mask

    def rotations(self, n: int | None = None) -> Tensor:
        """Random rotations, (n, 3, 3); about z for a law of the plane."""
        W = 3.0 * self.in_plane(self.normal(n or self.few, 3, 3))
        return torch.linalg.matrix_exp(W - W.mT)

    def deformations(self, n: int | None = None, size: float = 0.12) -> Tensor:
        """Random rotated stretches, (n, 3, 3), Hencky strains of standard deviation `size`."""
        n = n or self.few
        e = size * self.in_plane(self.normal(n, 3, 3))
        return self.rounded(self.rotations(n) @ torch.linalg.matrix_exp(0.5 * (e + e.mT)))

    def fibres(self, n: int) -> Tensor | None:
        """Random directions of fibres, (n, 3); None for a law without."""
        if not self.material.elastic.fibre:
            return None
        a = self.normal(n, 3)
        return self.rounded(a / a.norm(dim=1, keepdim=True))

    def rest_tangent(self) -> Tensor:
        """Slope d tau/d F [Pa] at F = I by Warp's adjoint, (9, 9)."""
        basis = torch.eye(9, dtype=torch.float64).reshape(9, 3, 3)
        return self.points.stress(self.eye(9), cotangent=basis)["F"].reshape(9, 9)

    @property
    def few(self) -> int:
        """Samples of the properties that hold at single states."""
        return max(20, self.samples // 10)

    def pk1(self, tau: Tensor, F: Tensor) -> Tensor:
        """First Piola-Kirchhoff stress P = tau F^-T [Pa]."""
        return tau @ torch.linalg.inv(F).mT
