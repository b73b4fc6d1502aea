# pyright: reportInvalidTypeForm=false
"""A material at points, without a simulation: its stress and return map in Warp, in either precision."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor

from physim.errors import InputError
from physim.laws.material import Material
from physim.numeric import Precision, Word, history, kernel, mat33, params, real

# Bound when the kernels are built.
stress_of = project_of = energy_of = Word
E0 = E1 = 0


def point_stress(
    F: wp.array(dtype=mat33),
    L: wp.array(dtype=mat33),
    h: wp.array(dtype=history),
    theta: wp.array(dtype=params),
    tau: wp.array(dtype=mat33),
):
    """Kirchhoff stress at each point."""
    i = wp.tid()
    tau[i] = stress_of(F[i], L[i], h[i], theta[i])


def point_project(
    F: wp.array(dtype=mat33),
    h: wp.array(dtype=history),
    f: wp.array(dtype=mat33),
    theta: wp.array(dtype=params),
    dt: real,
    F_new: wp.array(dtype=mat33),
    h_new: wp.array(dtype=history),
):
    """Return map at each point."""
    i = wp.tid()
    A, b = project_of(F[i], h[i], f[i], theta[i], dt)
    F_new[i] = A
    h_new[i] = b


def point_energy(F: wp.array(dtype=mat33), theta: wp.array(dtype=params), psi: wp.array(dtype=real)):
    """Elastic energy at each point."""
    i = wp.tid()
    columns = theta[i]
    psi[i] = energy_of(F[i], columns[E0:E1])


def point_energy_fibre(
    F: wp.array(dtype=mat33), h: wp.array(dtype=history), theta: wp.array(dtype=params), psi: wp.array(dtype=real)
):
    """Elastic energy at each point of a law with a fibre."""
    i = wp.tid()
    columns = theta[i]
    past = h[i]
    psi[i] = energy_of(F[i], past[0:3], columns[E0:E1])


class Points:
    """Evaluates a material in Warp at n points; tensors in and out are float64, rounded to the precision inside.

    Args:
        material: laws and parameters.
        precision: F32 or F64.
        device: Warp device name.
    """

    def __init__(self, material: Material, precision: Precision, device: str = "cpu") -> None:
        wp.init()
        self.material, self.precision, self.device = material, precision, device
        self.history_size = max(1, material.history_size)
        self._vectors = {
            "history": precision.vector(self.history_size),
            "params": precision.vector(max(1, material.laws.width)),
        }

    @cached_property
    def _stress(self) -> wp.Kernel:
        return self._build(point_stress, stress_of=self.material.stress_function(self.precision))

    @cached_property
    def _project(self) -> wp.Kernel:
        return self._build(point_project, project_of=self.material.project_function(self.precision))

    @cached_property
    def _energy(self) -> wp.Kernel:
        law = self.material.elastic
        if law.energy is None:
            raise InputError(f"law '{law.name}' states no energy.")
        start, end = self.material.laws.columns()["E"]
        psi = law.energy.warp(self.precision, params=self.precision.vector(end - start))
        bound = self._vectors | {"energy_of": psi, "E0": start, "E1": end}
        module = f"physim_points_energy_{law.name}"
        source = point_energy_fibre if law.fibre else point_energy
        return kernel(source, self.precision, module=module, differentiable=False, **bound)

    def _build(self, source: Any, **bound: Any) -> wp.Kernel:
        module = f"physim_points_{source.__name__}_{self.material.composition}"
        return kernel(source, self.precision, module=module, **self._vectors, **bound)

    def _array(self, values: Tensor, kind: Any) -> wp.array:
        return wp.array(values.detach().numpy(), dtype=kind, device=self.device, requires_grad=True)

    def _theta(self, theta: Tensor | None, n: int) -> wp.array:
        theta = self.material.theta() if theta is None else theta
        return self._array(theta.expand(n, -1).contiguous(), self._vectors["params"])

    def _past(self, h: Tensor | None, n: int) -> wp.array:
        h = self.material.rest_history(n) if h is None else h
        h = h if h.shape[1] else torch.zeros(n, 1, dtype=torch.float64)
        return self._array(h, self._vectors["history"])

    def stress(
        self, F: Tensor, L: Tensor | None = None, h: Tensor | None = None, *, cotangent: Tensor | None = None
    ) -> Any:
        """Kirchhoff stress [Pa], (n, 3, 3); with a cotangent the adjoints of F, L, h and theta instead.

        Args:
            F: deformation gradients [-], (n, 3, 3).
            L: velocity gradients [1/s], (n, 3, 3); zero unless given.
            h: history, (n, k); at rest unless given.
            cotangent: weights of the stresses, (n, 3, 3).
        """
        n, p = F.shape[0], self.precision
        L = torch.zeros_like(F) if L is None else L
        inputs = {"F": self._array(F, p.mat33), "L": self._array(L, p.mat33)}
        inputs |= {"h": self._past(h, n), "theta": self._theta(None, n)}
        tau = wp.zeros(n, dtype=p.mat33, device=self.device, requires_grad=True)
        weights = None if cotangent is None else {"tau": cotangent}
        return self._launch(self._stress, n, inputs, [], {"tau": tau}, weights)

    def energy(self, F: Tensor, h: Tensor | None = None) -> Tensor:
        """Elastic energy psi [J/m^3], (n,).

        Raises:
            InputError: the law states no energy.
        """
        n = F.shape[0]
        inputs = {"F": self._array(F, self.precision.mat33)}
        inputs |= {"h": self._past(h, n)} if self.material.elastic.fibre else {}
        inputs |= {"theta": self._theta(None, n)}
        psi = wp.zeros(n, dtype=self.precision.real, device=self.device, requires_grad=True)
        return self._launch(self._energy, n, inputs, [], {"psi": psi}, None)

    def project(
        self, F_trial: Tensor, f: Tensor, dt: float, h: Tensor | None = None,
        *, cotangent: tuple[Tensor, Tensor] | None = None,
    ) -> Any:  # fmt: skip
        """(F, h) after the return map; with cotangents of F and h the adjoints of F, h, f and theta instead."""
        n, p = F_trial.shape[0], self.precision
        inputs = {"F": self._array(F_trial, p.mat33), "h": self._past(h, n), "f": self._array(f, p.mat33)}
        inputs |= {"theta": self._theta(None, n)}
        outputs = {
            "F_new": wp.zeros(n, dtype=p.mat33, device=self.device, requires_grad=True),
            "h_new": wp.zeros(n, dtype=self._vectors["history"], device=self.device, requires_grad=True),
        }
        weights = None if cotangent is None else dict(zip(outputs, cotangent, strict=True))
        return self._launch(self._project, n, inputs, [p.real(dt)], outputs, weights)

    def _launch(
        self, run: wp.Kernel, n: int, inputs: dict[str, wp.array], scalars: list[Any],
        outputs: dict[str, wp.array], weights: dict[str, Tensor] | None,
    ) -> Any:  # fmt: skip
        tape = wp.Tape()
        with tape:
            wp.launch(run, n, inputs=[*inputs.values(), *scalars], outputs=list(outputs.values()), device=self.device)
        if weights is None:
            found = [self._back(a) for a in outputs.values()]
            return found[0] if len(found) == 1 else tuple(found)
        for name, weight in weights.items():
            outputs[name].grad = wp.array(weight.numpy(), dtype=outputs[name].dtype, device=self.device)
        tape.backward()
        return {name: self._back(a.grad) for name, a in inputs.items()}

    def _back(self, array: Any) -> Tensor:
        return torch.from_numpy(np.asarray(array.numpy(), dtype=float))
