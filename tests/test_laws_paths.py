"""Stress-stretch tests in time: linear viscoelasticity, slow and fast limits, principal axes, derivatives."""

from __future__ import annotations

import math

import pytest
import torch

from physim.errors import FitError, InputError
from physim.laws import LAWS, Material
from physim.laws.example import example_material
from physim.laws.neural import neural_maxwell
from physim.laws.paths import LEVELS, StretchPath, path_stress
from physim.laws.principal import Diagonal, on_axes
from physim.laws.tables import table_deformation, table_stress

torch.set_num_threads(1)

MU, BRANCH, TIME = 1e4, 3e4, 2.0
VALUES = {"mu": MU, "lam": 2e4, "branch_modulus_1": BRANCH, "relaxation_time_1": TIME}
SMALL = 1e-5
TESTS = ("uniaxial", "equibiaxial", "pure_shear", "simple_shear")


def rubber() -> Material:
    return Material("neo_hookean", None, "maxwell_1", rho0=1e3, values=VALUES)


def line(start: float, end: float, count: int) -> torch.Tensor:
    return torch.linspace(start, end, count, dtype=torch.float64)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def test_a_small_jump_relaxes_by_the_maxwell_modulus():
    time = line(0.0, 10.0, 21)
    held = torch.full_like(time, 1.0 + SMALL)
    modulus = path_stress(rubber(), "uniaxial", held, time) / SMALL
    assert relative(modulus, 3.0 * (MU + BRANCH * torch.exp(-time / TIME))) < 1e-4
    shear = path_stress(rubber(), "simple_shear", held[:6] - 1.0, time[:6]) / SMALL
    assert relative(shear, MU + BRANCH * torch.exp(-time[:6] / TIME)) < 1e-4


def test_storage_and_loss_modulus():
    w = 1.3
    time = line(0.0, 20.0, 201)[1:]
    stress = path_stress(rubber(), "uniaxial", 1.0 + SMALL * torch.sin(w * time), time) / SMALL
    late = time > 12.0
    waves = torch.stack([torch.sin(w * time), torch.cos(w * time)], dim=1)[late]
    storage, loss = torch.linalg.lstsq(waves, stress[late, None]).solution[:, 0].tolist()
    x = w * TIME
    assert storage == pytest.approx(3.0 * (MU + BRANCH * x**2 / (1.0 + x**2)), rel=5e-3)
    assert loss == pytest.approx(3.0 * BRANCH * x / (1.0 + x**2), rel=1e-2)


@pytest.mark.parametrize("test", TESTS)
def test_slow_is_the_equilibrium_and_fast_the_sum_of_the_springs(test):
    stretch = line(1.0, 1.6, 4)[1:]
    material = Material("neo_hookean", None, neural_maxwell(1, 1), rho0=1e3, values=VALUES)
    slow = path_stress(material, test, stretch, 1e6 * TIME * (stretch - 1.0))
    assert relative(slow, table_stress(material, test, stretch)) < 1e-4
    both = Material("neo_hookean", rho0=1e3, values={"mu": MU + BRANCH, "lam": 2e4})
    fast = path_stress(material, test, stretch, 1e-6 * TIME * (stretch - 1.0))
    assert relative(fast, table_stress(both, test, stretch)) < 1e-4


def test_slow_tests_of_compressible_rubber():
    stretch = line(1.0, 1.3, 2)[1:]
    slow = path_stress(rubber(), "uniaxial", stretch, 1e6 * TIME * (stretch - 1.0), incompressible=False)
    assert relative(slow, table_stress(rubber(), "uniaxial", stretch, incompressible=False)) < 1e-4


def test_a_compressible_side_is_free():
    time = torch.tensor([0.0, 200.0], dtype=torch.float64)
    stress = path_stress(rubber(), "uniaxial", torch.full_like(time, 1.0 + SMALL), time, incompressible=False) / SMALL
    for modulus, shear in zip(stress.tolist(), (MU + BRANCH, MU), strict=True):
        bulk = 2e4 + 2.0 / 3.0 * MU
        assert modulus == pytest.approx(9.0 * bulk * shear / (3.0 * bulk + shear), abs=1e-3 * float(stress[0]))


def test_deformations_are_those_of_the_path():
    """A side that viscosity held back is not where a slow test has it; of a plastic solid the elastic part is told."""
    stretch, time = line(1.0, 1.02, 2)[1:], line(0.0, 1e-6, 2)[1:]
    theta = rubber().theta().detach()
    fast = StretchPath(rubber(), "uniaxial", stretch, time, incompressible=False)
    slow = StretchPath(rubber(), "uniaxial", stretch, 1e12 * time, incompressible=False)
    want = table_deformation(rubber(), "uniaxial", stretch, incompressible=False)
    assert torch.allclose(slow.deformation(theta), want, rtol=0.0, atol=1e-6)
    # The branch adds its modulus to shear alone: as large a bulk modulus leaves no transverse strain.
    assert torch.allclose(fast.deformation(theta)[0, 1, 1], torch.ones(()).double(), rtol=0.0, atol=2e-4)
    assert float(want[0, 1, 1]) < 0.995
    clay = Material("hencky", None, "von_mises", rho0=1e3, values={"E": 3e5, "nu": 0.3, "yield_stress": 5e3})
    for test in ("uniaxial", "simple_shear"):
        path = StretchPath(clay, test, 10.0 * (stretch - 1.0) + (test == "uniaxial"), time)
        F = path.deformation(clay.theta().detach())
        strain = torch.log(torch.linalg.svdvals(F)).norm(dim=1)
        assert F.shape == (1, 3, 3) and float(strain) == pytest.approx(5e3 / (2.0 * 3e5 / 2.6), rel=1e-3)


def test_viscous_stress_and_yield():
    time = line(0.0, 0.01, 5)[1:]
    thick = Material("neo_hookean", "kelvin_voigt", rho0=1e3, values={"mu": MU, "lam": 2e4, "viscosity": 100.0})
    stress = path_stress(thick, "uniaxial", 1.0 + 1e-3 * time, time)
    assert relative(stress, 3.0 * MU * 1e-3 * time + 3.0 * 100.0 * 1e-3) < 1e-4
    clay = Material("hencky", None, "von_mises", rho0=1e3, values={"E": 3e5, "nu": 0.3, "yield_stress": 5e3})
    stretch = torch.cat([line(1.0, 1.2, 10), line(1.2, 1.0, 10)])
    stress = path_stress(clay, "uniaxial", stretch, line(0.0, 1.0, 20), measure="cauchy")
    assert float(stress[9]) == pytest.approx(math.sqrt(1.5) * 5e3)  # |dev tau| = 5 kPa
    assert float(stress[-1]) == pytest.approx(-math.sqrt(1.5) * 5e3)


@pytest.mark.parametrize("name", [n for n, law in LAWS.items() if not getattr(law, "fibre", False)])
def test_principal_axes_read_the_same_law(name):
    material, n = example_material(name), 5
    g = torch.Generator().manual_seed(1)
    for module in material.networks:
        for weight in module.parameters() if module is not None else ():
            weight.data.copy_(0.3 * torch.randn(weight.shape, generator=g, dtype=torch.float64))

    def diagonal(size: float) -> torch.Tensor:
        return torch.diag_embed(torch.exp(size * torch.randn(n, 3, generator=g, dtype=torch.float64)))

    def axes(A: torch.Tensor) -> Diagonal:
        return Diagonal(torch.diagonal(A, dim1=1, dim2=2).mT[:, None])

    F, f, dt = diagonal(0.2), diagonal(0.05), 0.1 * torch.rand(n, generator=g, dtype=torch.float64)
    L, theta, h = diagonal(0.1) - torch.eye(3), material.theta().detach(), material.rest_history(n)
    for at in range(0, material.history_size, 6) if "strain_1_xx" in material.laws.history else ():
        h[:, at : at + 3] = 0.1 * torch.randn(n, 3, generator=g, dtype=torch.float64)
    past = h if h.shape[1] else torch.zeros(n, 1, dtype=torch.float64)
    want, now = torch.vmap(material.laws.torch_project())(f @ F, past, f, theta.expand(n, -1), dt)
    found, after = on_axes(material.laws.project_parts())(axes(f @ F), h.unbind(1), axes(f), theta.unbind(1), dt)
    assert float((axes(want).entries - found.entries).abs().max()) < 1e-12
    for i, component in enumerate(after):
        assert float((now[:, i] - component).abs().max()) < 1e-12
    tau = on_axes(material.laws.stress_parts())(axes(F), axes(L), h.unbind(1), theta.unbind(1))
    assert relative(tau.entries, axes(material.kirchhoff(F, L, h, theta).detach()).entries) < 1e-12


@pytest.mark.parametrize("reads", ["strain", "overstress"])
def test_learned_relaxation_follows_its_rate_and_has_derivatives(reads):
    """At a held strain all branches relax by exp(-t exp(N)/T) when the rate is of the strain."""
    law = neural_maxwell(3, 2, "neo_hookean", reads)
    values = {"mu": MU, "lam": 2e4} | {f"branch_modulus_{i}": BRANCH / i for i in (1, 2)}
    values |= {f"relaxation_time_{i}": TIME * i for i in (1, 2)}
    material = Material("neo_hookean", None, law, rho0=1e3, values=values)
    g = torch.Generator().manual_seed(3)
    for weight in material.inelastic_network.parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=g, dtype=torch.float64))
    time, s = line(0.0, 4.0, 5), 1.6
    stretch = torch.full_like(time, s)
    if reads == "strain":
        outer, odds, inner = material.theta().detach()[0, 6:].reshape(3, 3)
        x = math.log(s**2 + 2.0 / s - 2.0)
        b = torch.log(odds)
        soft = torch.nn.functional.softplus
        rate = float(torch.exp((outer * (soft(b + inner * x) - soft(b))).sum()))
        assert abs(rate - 1.0) > 0.1
        want = MU * (s - s**-2.0)
        for i in (1, 2):
            e = math.log(s) * torch.exp(-time * rate / (TIME * i))
            want = want + BRANCH / i * (torch.exp(2.0 * e) - torch.exp(-e)) / s
        assert relative(path_stress(material, "uniaxial", stretch, time), want) < 1e-9
    theta = material.theta().detach().requires_grad_()
    rows = torch.cat([1.0 + 0.3 * time[:3], stretch[3:]])
    (slope,) = torch.autograd.grad(path_stress(material, "uniaxial", rows, time, theta=theta).sum(), theta)
    for j in range(theta.shape[1]):
        step = torch.zeros_like(theta)
        step[0, j] = 1e-4 * float(theta[0, j].detach().abs())
        up, down = (path_stress(material, "uniaxial", rows, time, theta=theta.detach() + k * step) for k in (1, -1))
        quotient = float((up - down).sum() / (2.0 * step[0, j]))
        assert float(slope[0, j]) == pytest.approx(quotient, rel=1e-5, abs=1e-9 * float(up.abs().max()))


def test_a_path_that_is_none_is_refused():
    material, ones = rubber(), torch.ones(2)
    with pytest.raises(InputError, match="row 1 is before"):
        path_stress(material, "uniaxial", ones, torch.tensor([1.0, 0.5]))
    with pytest.raises(InputError, match="above 0"):
        path_stress(material, "uniaxial", -ones, ones)
    with pytest.raises(InputError, match="stretch: row 0 is not finite"):
        path_stress(material, "uniaxial", torch.full((2,), math.nan), ones)
    with pytest.raises(InputError, match="uniaxial, equibiaxial"):
        path_stress(material, "torsion", ones, ones)


class Given:
    """Stands for a walk: the stress of each level is given, that of the last one beyond."""

    def __init__(self, *levels: list[float]) -> None:
        self.levels, self.seen = levels, []

    def stress(self, level: int, theta: torch.Tensor) -> torch.Tensor:
        self.seen.append(level)
        return torch.tensor(self.levels[min(level, len(self.levels) - 1)], dtype=torch.float64)

    def both(self, level: int, theta: torch.Tensor, wanted: bool) -> tuple[torch.Tensor, None]:
        return self.stress(level, theta), None


def settled(*levels: list[float]) -> tuple[list[float], int]:
    path = StretchPath(rubber(), "uniaxial", line(1.0, 1.1, 2), line(0.0, 1.0, 2))
    path._walk = walk = Given(*levels)
    return path.stress(torch.zeros(1, 2)).tolist(), max(walk.seen)


def test_what_is_no_number_is_not_settled():
    assert settled([1.0, 2.0], [1.0, 2.001], [9.0, 9.0]) == ([1.0, 2.001], 1)
    assert settled([1.0, 3.0], [1.0, 2.1], [1.0, 2.0], [1.0, 2.0]) == ([1.0, 2.0], 3)
    # Steps that are too large may leave what the law can do; smaller ones stay within.
    assert settled([1.0, math.inf], [1.0, 2.0], [1.0, 2.0]) == ([1.0, 2.0], 2)
    assert settled([1.0, 2.0], [1.0, math.nan], [1.0, 2.0], [1.0, 2.0]) == ([1.0, 2.0], 3)
    for never in ([[1.0, math.nan]], [[1.0, 2.0], [1.0, math.inf], [1.0, math.nan]]):
        with pytest.raises(FitError, match="at row 1 of the uniaxial path is not finite, however small"):
            settled(*never)
    with pytest.raises(FitError, match=r"at row 1 .* still changes by 1 Pa"):
        settled(*([1.0, 2.0 + i] for i in range(LEVELS + 1)))
    with pytest.raises(FitError, match=r"at row 1 .* is not finite"):
        settled(*([1.0, 2.0 + i] for i in range(LEVELS)), [1.0, math.nan])


def test_steps_do_not_depend_on_what_was_asked_before():
    time = line(0.0, 4.0, 5)[1:]
    path, turned = (StretchPath(rubber(), "uniaxial", 1.0 + 0.1 * time, time) for _ in range(2))
    near = rubber().theta().detach()
    far = near.clone()
    far[0, 2:] = torch.tensor([1e6, 0.05])
    first, other = path.stress(near), path.stress(far)
    assert path._settled(far, wanted=False)[0] > path._settled(near, wanted=False)[0]
    assert torch.equal(turned.stress(far), other) and torch.equal(turned.stress(near), first)
    assert torch.equal(path.stress(near.clone().requires_grad_()).detach(), first)
    begun = path.begun(far)
    assert begun._settled(near, wanted=False)[0] == path._settled(far, wanted=False)[0]
    assert torch.equal(begun.stress(far), other) and torch.equal(path.stress(near), first)


def test_weights_that_are_next_to_nothing_keep_their_derivatives():
    law = neural_maxwell(3, 1)
    material = Material("neo_hookean", None, law, rho0=1e3, values=VALUES)
    time = line(0.0, 4.0, 5)[1:]
    path = StretchPath(material, "uniaxial", 1.0 + 0.15 * time, time)
    first, _ = material.laws.network_columns("inelastic")

    def slopes(outer: float) -> torch.Tensor:
        theta = material.theta().detach().clone()
        theta[0, first : first + 3] = outer
        theta[0, first + 3] = 1e-6  # an exponential, which has no other side of zero
        theta.requires_grad_()
        return torch.autograd.grad(path.stress(theta).sum(), theta)[0][0]

    want, found = slopes(1e-3), slopes(1e-9)
    assert bool((found[first : first + 3].abs() > 0.0).all()) and bool(torch.isfinite(found).all())
    assert torch.allclose(found[first : first + 3], want[first : first + 3], rtol=2e-3)
