"""Stress-stretch tables: closed forms of incompressible rubber, free stretches, and the fits to Treloar's rubber."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from physim.errors import FitError, InputError
from physim.laws import Material
from physim.laws.tables import table_stress

torch.set_num_threads(1)

DATA = Path(os.environ.get("PHYSIM_DATA", Path(__file__).parents[2] / "shared" / "data"))
STRETCH = torch.linspace(0.6, 2.5, 12, dtype=torch.float64)
RUBBERS = {
    "mooney_rivlin": {"c10": 1.5e5, "c01": 4e4},
    "yeoh": {"c1": 1.7e5, "c2": -2e3, "c3": 50.0},
    "gent": {"mu": 3e5, "locking": 60.0},
}


def slopes(name: str, I1: torch.Tensor, values: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """W1 and W2 in closed form."""
    zero = torch.zeros_like(I1)
    if name == "mooney_rivlin":
        return zero + values["c10"], zero + values["c01"]
    if name == "yeoh":
        x = I1 - 3
        return values["c1"] + 2 * values["c2"] * x + 3 * values["c3"] * x**2, zero
    return 0.5 * values["mu"] / (1 - (I1 - 3) / values["locking"]), zero


@pytest.mark.parametrize("name", RUBBERS)
@pytest.mark.parametrize("test", ["uniaxial", "equibiaxial", "pure_shear"])
def test_incompressible_formulas(name, test):
    values = RUBBERS[name]
    s = STRETCH
    material = Material(name, rho0=1000.0, values=values | {"bulk_modulus": 1e9})
    I1 = {"uniaxial": s**2 + 2 / s, "equibiaxial": 2 * s**2 + s**-4, "pure_shear": s**2 + 1 + s**-2}[test]
    W1, W2 = slopes(name, I1, values)
    exact = {
        "uniaxial": 2 * (W1 + W2 / s) * (s - s**-2),
        "equibiaxial": 2 * (W1 + W2 * s**2) * (s - s**-5),
        "pure_shear": 2 * (W1 + W2) * (s - s**-3),
    }[test]
    got = table_stress(material, test, s)
    assert float((got - exact).abs().max() / exact.abs().max()) < 1e-12
    cauchy = table_stress(material, test, s, measure="cauchy")
    assert torch.allclose(cauchy, got * s)


def test_simple_shear_and_one_ogden_term_is_neo_hookean():
    g = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)
    ogden = Material("ogden_1", rho0=1000.0, values={"mu_1": 2e5, "alpha_1": 2.0, "bulk_modulus": 1e9})
    rubber = Material("neo_hookean", rho0=1000.0, values={"mu": 2e5, "lam": 1e9})
    assert torch.allclose(table_stress(ogden, "simple_shear", g), 2e5 * g)
    for test in ("uniaxial", "equibiaxial", "pure_shear"):
        a, b = (table_stress(m, test, STRETCH) for m in (ogden, rubber))
        assert float((a - b).abs().max() / b.abs().max()) < 1e-12


def test_compressible_side_is_free_and_differentiable():
    material = Material("neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
    small = torch.tensor([1.0 + 1e-6], dtype=torch.float64)
    strain = 1e-6
    for test, modulus in {"uniaxial": 1e5, "equibiaxial": 1e5 / 0.7, "pure_shear": 1e5 / 0.91}.items():
        stress = table_stress(material, test, small, incompressible=False)
        assert float(stress) == pytest.approx(modulus * strain, rel=1e-5)
    soft = Material("neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.4999999})
    nearly = table_stress(soft, "uniaxial", STRETCH, incompressible=False)
    assert float((nearly - table_stress(soft, "uniaxial", STRETCH)).abs().max()) < 1.0

    theta = material.theta().detach().requires_grad_()
    stress = table_stress(material, "uniaxial", STRETCH, incompressible=False, theta=theta)
    (gradient,) = torch.autograd.grad(stress.sum(), theta)
    for j in range(2):
        step = torch.zeros_like(theta)
        step[0, j] = 10.0
        up, down = (
            table_stress(material, "uniaxial", STRETCH, incompressible=False, theta=theta.detach() + k * step).sum()
            for k in (1, -1)
        )
        assert float(gradient[0, j]) == pytest.approx(float(up - down) / 20.0, rel=1e-6)


def test_errors_say_what_to_do():
    material = Material("stvk", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
    with pytest.raises(InputError, match="above 0"):
        table_stress(material, "uniaxial", torch.tensor([1.0, -1.0]))
    with pytest.raises(InputError, match="not finite"):
        table_stress(material, "uniaxial", torch.tensor([float("nan")]))
    with pytest.raises(InputError, match="uniaxial, equibiaxial"):
        table_stress(material, "torsion", torch.tensor([1.0]))
    with pytest.raises(FitError, match="stress-free"):
        table_stress(material, "uniaxial", torch.tensor([6.0]), incompressible=False)


def treloar() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Treloar 1944 at 20 C: stretch [-] and nominal stress [Pa]."""
    found = {}
    for test in ("uniaxial", "equibiaxial"):
        path = DATA / "rubber" / f"treloar1944_20C_{test}.csv"
        if not path.exists():
            pytest.skip(f"needs {path} (set PHYSIM_DATA)")
        rows = [r for r in csv.reader(line for line in path.read_text().splitlines() if not line.startswith("#"))]
        numbers = np.array([[float(c) for c in r[:2]] for r in rows[1:]])
        unit = 1e6 if "MPa" in rows[0][1] else 1.0
        found[test] = (torch.tensor(numbers[:, 0]), torch.tensor(numbers[:, 1] * unit))
    return found


def r_squared(measured: torch.Tensor, predicted: torch.Tensor) -> float:
    """Coefficient of determination 1 - |residual|^2/|measured - mean|^2."""
    return float(1.0 - ((measured - predicted) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())


def fit(material: Material, tests: dict, starts: int) -> dict[str, float]:
    """Joint least squares, each test's residuals divided by its largest stress; the best of several starts."""
    free = list(material.raw.values())
    rng = np.random.default_rng(0)

    def theta_of(x: torch.Tensor) -> torch.Tensor:
        values = {n: p.to_value(v) for (n, p), v in zip(names, x, strict=True)}
        return torch.stack([values.get(n, material.values().get(n)) for n in material.names])[None]

    names = [(n, p) for n, p in material.table.items() if n != "bulk_modulus"]

    def residuals(x: torch.Tensor) -> torch.Tensor:
        theta = theta_of(x)
        return torch.cat(
            [(table_stress(material, t, s, theta=theta) - stress) / stress.max() for t, (s, stress) in tests.items()]
        )

    def value(x: np.ndarray) -> np.ndarray:
        return np.clip(residuals(torch.tensor(x)).detach().numpy(), -1e6, 1e6)

    def slope(x: np.ndarray) -> np.ndarray:
        return torch.func.jacrev(residuals)(torch.tensor(x)).numpy()

    start = np.array([float(material.raw[n]) for n, _ in names])
    best = None
    for k in range(starts):
        x0 = start + (0.5 * rng.normal(size=len(start)) if k else 0.0)
        result = least_squares(value, x0, slope, x_scale="jac", max_nfev=300)
        if best is None or result.cost < best.cost:
            best = result
    theta = theta_of(torch.tensor(best.x))
    assert len(free) == len(names) + 1
    return {t: r_squared(stress, table_stress(material, t, s, theta=theta)) for t, (s, stress) in tests.items()}


TRELOAR = {
    "ogden_1_as_neo_hookean": ("mooney_rivlin", {"c10": 2e5, "c01": 1.0}, 1, (0.824, 0.947)),
    "yeoh": ("yeoh", {"c1": 1.7e5, "c2": -2e3, "c3": 40.0}, 2, (0.979, 0.987)),
    "gent": ("gent", {"mu": 3e5, "locking": 80.0}, 2, (0.978, 0.985)),
    "ogden_3": (
        "ogden_3",
        {"mu_1": 3e5, "alpha_1": 1.5, "mu_2": 2e3, "alpha_2": 5.0, "mu_3": 1e4, "alpha_3": -2.0},
        3,
        (0.997, 0.9998),
    ),
}


@pytest.mark.parametrize("case", TRELOAR)
def test_treloar_joint_fits_match_the_published_quality(case):
    law, values, starts, want = TRELOAR[case]
    material = Material(law, rho0=1000.0, values=values | {"bulk_modulus": 1e9})
    got = fit(material, treloar(), starts)
    print(case, got)
    assert got["uniaxial"] == pytest.approx(want[0], abs=0.005)
    assert got["equibiaxial"] == pytest.approx(want[1], abs=0.005)
