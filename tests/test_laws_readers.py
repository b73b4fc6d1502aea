"""One source, three readers: Warp in both precisions and torch agree in value and gradient, for every law."""

from __future__ import annotations

import pytest
import torch

from physim.laws import LAWS, Material
from physim.laws.example import example_material
from physim.laws.points import Points
from physim.numeric import F32, F64

torch.set_num_threads(1)
EYE = torch.eye(3, dtype=torch.float64)


def states(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """F, L and f: random, F = I, almost I, two and three equal stretches, rotated."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    F = EYE + 0.15 * normal(24, 3, 3)
    Q = torch.linalg.qr(normal(8, 3, 3)).Q
    Q = Q * torch.linalg.det(Q)[:, None, None].sign()
    F[0] = EYE
    F[1] = EYE + 1e-9 * normal(3, 3)
    F[2] = Q[0] @ torch.diag(torch.tensor([1.2, 1.2, 0.8], dtype=torch.float64)) @ Q[1]
    F[3] = Q[2] @ torch.diag(torch.tensor([1.1, 0.9, 0.9], dtype=torch.float64)) @ Q[3]
    F[4] = 0.98 * Q[4]
    F = F.to(torch.float32).double()
    return F, 2.0 * normal(24, 3, 3), EYE + 0.02 * normal(24, 3, 3)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    scale = float(b.abs().max())
    return float((a - b).abs().max()) / scale if scale else float(a.abs().max())


def combined() -> dict[str, Material]:
    values = {"E": 1e5, "nu": 0.4, "viscosity": 3.0, "branch_modulus_1": 2e4, "relaxation_time_1": 0.05}
    every = Material("neo_hookean", "kelvin_voigt", "maxwell_1", rho0=1000.0, values=values)
    return {name: example_material(name) for name in LAWS} | {"elastic_viscous_inelastic": every}


MATERIALS = combined()


@pytest.mark.parametrize("name", MATERIALS)
@pytest.mark.parametrize("precision", [F32, F64], ids=["f32", "f64"])
def test_warp_and_torch_agree_in_value_and_gradient(name, precision):
    material = MATERIALS[name]
    points, dt = Points(material, precision), 1e-3
    F, L, f = states(1)
    n = len(F)
    g = torch.Generator().manual_seed(2)
    h = 0.02 * torch.rand(n, material.history_size, dtype=torch.float64, generator=g)
    if any("strain_1_xx" in c for c in material.inelastic.history) if material.inelastic else False:
        h = h - 0.01
    F, L, f, h = (t.clone().requires_grad_() for t in (F, L, f, h))
    theta = material.theta().detach().expand(n, -1).clone().requires_grad_()
    bar, gradient_bar = (1e-13, 1e-10) if precision is F64 else (2e-6, 1e-4)

    tau = material.kirchhoff(F, L, h, theta)
    G = torch.randn(n, 3, 3, dtype=torch.float64, generator=g)
    assert relative(points.stress(F, L, h), tau.detach()) < bar
    want = torch.autograd.grad(tau, (F, L, h, theta), G, allow_unused=True)
    got = points.stress(F, L, h, cotangent=G)
    for key, w in zip(("F", "L", "h", "theta"), want, strict=True):
        if w is not None and w.numel():
            for j in range(w.shape[1]) if key == "theta" else [slice(None)]:
                assert relative(got[key][:, j], w[:, j]) < gradient_bar, f"{key} {j}"

    if material.inelastic is None:
        return
    A, b = material.project(F, f, dt, h=h, theta=theta)
    C = torch.randn(n, points.history_size, dtype=torch.float64, generator=g)
    A_warp, b_warp = points.project(F, f, dt, h)
    assert relative(A_warp, A.detach()) < bar
    if material.history_size:
        assert relative(b_warp, b.detach()) < 50 * bar  # small strains and multipliers are differences
    outputs, weights = ([A, b], [G, C]) if material.history_size else ([A], [G])
    want = torch.autograd.grad(outputs, (F, h, f, theta), weights, allow_unused=True)
    got = points.project(F, f, dt, h, cotangent=(G, C if material.history_size else 0 * C))
    smooth = slice(2, None)  # F = I is the tip of the cone and the start of flow: readers may take either side
    for key, w in zip(("F", "h", "f", "theta"), want, strict=True):
        if w is not None and w.numel():
            for j in range(w.shape[1]) if key == "theta" else [slice(None)]:
                assert relative(got[key][smooth, j], w[smooth, j]) < gradient_bar, f"{key} {j}"
