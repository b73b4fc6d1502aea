"""Small-matrix algebra: values against torch, adjoints against central differences and the torch version."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import warp as wp

from physim import tensor
from physim.numeric import F32, F64, Precision, kernel

torch.set_num_threads(1)


def apply_matrix(A: wp.array(dtype=mat33), out: wp.array(dtype=mat33)):  # noqa: F821
    i = wp.tid()
    out[i] = function(A[i])  # noqa: F821


@functools.cache
def matrix_kernel(name: str, precision: Precision):
    return kernel(apply_matrix, precision, module=f"test_tensor_{name}", function=getattr(tensor, name))


def evaluate(name: str, A: np.ndarray, precision: Precision = F64, cotangent: np.ndarray | None = None):
    """Value of a matrix function at each A, and its adjoint applied to `cotangent`."""
    x = wp.array(A, dtype=precision.mat33, requires_grad=True, device="cpu")
    y = wp.zeros(len(A), dtype=precision.mat33, requires_grad=True, device="cpu")
    run = matrix_kernel(name, precision)
    with wp.Tape() as tape:
        wp.launch(run, len(A), inputs=[x], outputs=[y], device="cpu")
    if cotangent is None:
        return y.numpy()
    y.grad = wp.array(cotangent, dtype=precision.mat33, device="cpu")
    tape.backward()
    return y.numpy(), x.grad.numpy()


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def gradients(rng: np.random.Generator) -> np.ndarray:
    """Deformation gradients: random, I, almost I, two equal stretches, three equal, very stretched."""
    F = [np.eye(3) + 0.3 * rng.normal(size=(3, 3)) for _ in range(20)]
    F = [f for f in F if np.linalg.det(f) > 0.1]
    F += [np.eye(3), np.eye(3) + 1e-9 * rng.normal(size=(3, 3)), rotation(rng), 1.3 * rotation(rng)]
    for s in ([1.2, 1.2, 0.8], [0.7, 1.5, 0.7], [1.2, 1.2 + 1e-9, 0.8], [8.0, 0.35, 0.35], [0.1, 1.0, 3.0]):
        F.append(rotation(rng) @ np.diag(s) @ rotation(rng))
    for size in (0.01, 0.04, 0.06, 0.1, 0.2):  # both sides of where the series ends
        for _ in range(4):
            D = rng.normal(size=(3, 3))
            F.insert(0, rotation(rng) @ (np.eye(3) + size * (D + D.T) / np.linalg.norm(D + D.T)))
    return np.stack(F)


def arguments(name: str, rng: np.random.Generator) -> np.ndarray:
    F = gradients(rng)
    return 0.4 * (F + F.transpose(0, 2, 1)) if name == "exp_sym" else F


def reference(name: str, A: np.ndarray) -> np.ndarray:
    """The same function from numpy's decompositions."""
    u, s, vt = np.linalg.svd(A)
    if name == "polar_rotation":
        return u @ vt
    if name == "stretch_strain":
        return u @ ((s - 1.0)[:, :, None] * u.transpose(0, 2, 1))
    if name == "log_strain":
        return u @ (np.log(s)[:, :, None] * u.transpose(0, 2, 1))
    w, v = np.linalg.eigh(A)
    return v @ (np.exp(w)[:, :, None] * v.transpose(0, 2, 1))


NAMES = ["polar_rotation", "stretch_strain", "log_strain", "exp_sym"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [F32, F64])
def test_value_matches_numpy(name, precision):
    A = arguments(name, np.random.default_rng(0))
    A = A.astype(np.float32).astype(float)
    error = np.abs(evaluate(name, A, precision) - reference(name, A)).max(axis=(1, 2))
    scale = np.abs(reference(name, A)).max(axis=(1, 2)) + 1.0
    bar = 3e-5 if precision is F32 else 2e-13  # float32: b of a stretch of 0.1 beside 3 keeps 1e-5
    assert (error / scale).max() < bar


@pytest.mark.parametrize("name", NAMES)
def test_adjoint_matches_central_differences_and_torch(name):
    rng = np.random.default_rng(1)
    A = arguments(name, rng)
    G, D = rng.normal(size=A.shape), rng.normal(size=A.shape)
    if name == "exp_sym":
        D = D + D.transpose(0, 2, 1)
    _, adjoint = evaluate(name, A, F64, G)
    h = 1e-5
    up, down = (evaluate(name, A + s * h * D) for s in (1, -1))
    numeric = ((up - down) / (2 * h) * G).sum(axis=(1, 2))
    exact = (adjoint * D).sum(axis=(1, 2))
    scale = np.abs(adjoint).max(axis=(1, 2)) + 1.0
    assert (np.abs(numeric - exact) / scale).max() < 2e-6  # the differences' own truncation at stretch 0.1

    x = torch.tensor(A, requires_grad=True)
    y = torch.vmap(getattr(tensor, name).torch())(x)
    (g,) = torch.autograd.grad(y, x, torch.tensor(G))
    assert np.abs(y.detach().numpy() - reference(name, A)).max() < 1e-10
    assert (np.abs(g.numpy() - adjoint).max(axis=(1, 2)) / scale).max() < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_float32_adjoint_matches_float64(name):
    rng = np.random.default_rng(2)
    A = arguments(name, rng)[:-2].astype(np.float32).astype(float)
    G = rng.normal(size=A.shape).astype(np.float32).astype(float)
    single, double = evaluate(name, A, F32, G)[1], evaluate(name, A, F64, G)[1]
    scale = np.abs(double).max(axis=(1, 2)) + 1.0
    assert (np.abs(single - double).max(axis=(1, 2)) / scale).max() < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_torch_version_is_twice_differentiable_at_identity(name):
    A = torch.zeros(3, 3, dtype=torch.float64) if name == "exp_sym" else torch.eye(3, dtype=torch.float64)
    function = getattr(tensor, name).torch()
    rng = np.random.default_rng(3)
    V = torch.tensor(rng.normal(size=(3, 3)))
    V = V + V.mT

    def energy(t: torch.Tensor) -> torch.Tensor:
        return (function(A + t * V) * V).sum()

    zero = torch.zeros((), dtype=torch.float64)
    first = torch.func.grad(energy)
    second = torch.func.grad(first)(zero)
    known = {"log_strain": -(V @ V * V).sum(), "exp_sym": (V @ V * V).sum()}.get(name, 0.0)
    assert abs(float(second) - float(known)) < 1e-9


def test_small_strain_keeps_its_digits_in_float32():
    strain = 1e-6
    F = np.eye(3) + np.diag([strain, 0, -strain])
    F32_exact = F.astype(np.float32).astype(float)
    got = evaluate("log_strain", F32_exact[None], F32)[0]
    want = np.log(np.diag(F32_exact))
    assert np.abs(np.diag(got) - want).max() < 1e-6 * strain


def test_exp_of_zero_is_exactly_the_identity():
    for precision in (F32, F64):
        assert (evaluate("exp_sym", np.zeros((1, 3, 3)), precision)[0] == np.eye(3)).all()


def test_polar_of_an_inverted_matrix_is_a_rotation():
    rng = np.random.default_rng(4)
    F = np.stack([rotation(rng) @ np.diag([1.3, 0.9, -0.2]) @ rotation(rng) for _ in range(5)])
    R = evaluate("polar_rotation", F)
    assert np.allclose(np.linalg.det(R), 1.0)
    S = R.transpose(0, 2, 1) @ F
    assert np.allclose(S, S.transpose(0, 2, 1))
    assert np.allclose(np.linalg.eigvalsh(S), [-0.2, 0.9, 1.3])
    G, D = rng.normal(size=F.shape), rng.normal(size=F.shape)
    _, adjoint = evaluate("polar_rotation", F, F64, G)
    h = 1e-6
    difference = (evaluate("polar_rotation", F + h * D) - evaluate("polar_rotation", F - h * D)) / (2 * h)
    assert np.allclose((difference * G).sum(axis=(1, 2)), (adjoint * D).sum(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def stretch_kernel(
    F: wp.array(dtype=mat33),  # noqa: F821
    s: wp.array(dtype=vec3),  # noqa: F821
    power: wp.array(dtype=real),  # noqa: F821
):
    i = wp.tid()
    t = stretches(F[i])  # noqa: F821
    s[i] = t
    power[i] = t[0] * t[0] * t[0] + t[1] * t[1] * t[1] + t[2] * t[2] * t[2]


def test_stretches_and_their_symmetric_functions():
    F = gradients(np.random.default_rng(5))  # equal and almost equal stretches among them
    n = len(F)
    x = wp.array(F, dtype=F64.mat33, requires_grad=True, device="cpu")
    s = wp.zeros(n, dtype=F64.vec3, device="cpu")
    power = wp.zeros(n, dtype=wp.float64, requires_grad=True, device="cpu")
    run = kernel(stretch_kernel, F64, module="test_tensor_stretches", stretches=tensor.stretches)
    with wp.Tape() as tape:
        wp.launch(run, n, inputs=[x], outputs=[s, power], device="cpu")
    u, sigma, vt = np.linalg.svd(F)
    assert np.abs(np.sort(s.numpy()) - np.sort(sigma)).max() < 1e-13
    power.grad = wp.array(np.ones(n), dtype=wp.float64, device="cpu")
    tape.backward()
    want = 3 * u @ (sigma[:, :, None] ** 2 * vt)  # d tr(S^3) = 3 R S^2 : dF
    assert np.abs(x.grad.numpy() - want).max() < 1e-10
