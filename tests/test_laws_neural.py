"""Learned energies keep the physics for any weights, in every reader, and carry gradients to their weights."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from solid_bodies import block
from torch import Tensor

from physim.errors import InputError
from physim.fit.differences import compare
from physim.laws import ElasticLaw, Material, get_law
from physim.laws.neural import cann, formula, learned_law, neural_energy
from physim.laws.neural.span import span_weights
from physim.laws.points import Points
from physim.laws.stability import reach_share, strains_within, wave_modulus
from physim.laws.tables import table_stress
from physim.laws.verify import verify
from physim.numeric import F32, F64
from physim.sim.model import Grid, Model
from physim.solvers.mpm.solver import SolverMPM

torch.set_num_threads(1)
EYE = torch.eye(3, dtype=torch.float64)
KINDS = {
    "invariants": {},
    "convex": {"convex": True, "hidden": 5},
    "stretches": {"encoder": "stretches", "hidden": 5},
    "hencky": {"encoder": "hencky", "hidden": 5},
    "volume": {"encoder": "volume", "hidden": 4},
    "wide": {"hidden": 24},
    "fibre": {"encoder": "fibre", "hidden": 6},
    "fibre_convex": {"encoder": "fibre", "hidden": 6, "convex": True},
    "cann": {"family": "cann"},
    "cann_convex": {"family": "cann", "convex": True},
    "cann_stretches": {"family": "cann", "encoder": "stretches"},
    "cann_hencky": {"family": "cann", "encoder": "hencky"},
    "cann_volume": {"family": "cann", "encoder": "volume"},
}
# What "volume" and "cann" do together, other tests look at.
COMPILED = [kind for kind in KINDS if kind != "cann_volume"]
ELASTIC = {"E": 1e5, "nu": 0.3}


def law_of(kind: str, **options: object) -> ElasticLaw:
    given = {"family": "neural_energy", **KINDS[kind], **options}
    return learned_law(given.pop("family"), given)


def wild(law: ElasticLaw, seed: int = 1, size: float = 0.7) -> Material:
    """A material whose weights are far from their start."""
    network = law.network.make(seed)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight += (0.0 if name == "shape" else size) * torch.randn(weight.shape, dtype=torch.float64, generator=g)
    values = ELASTIC if len(law.params) == 2 else {"bulk_modulus": 8e4}
    return Material(law, rho0=1000.0, values=values, network=network)


def deformed(n: int, size: float, seed: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, 3, 3, dtype=torch.float64, generator=g)
    Q = torch.linalg.matrix_exp(torch.randn(n, 3, 3, dtype=torch.float64, generator=g) * 2.0 * (EYE == 0))
    Q = torch.linalg.qr(Q).Q
    Q = Q * torch.linalg.det(Q).sign()[:, None, None]
    return Q @ torch.linalg.matrix_exp(size * (A + A.mT) / 2)


@pytest.mark.parametrize("precision", [F64, F32], ids=["f64", "f32"])
@pytest.mark.parametrize("kind", COMPILED)
def test_any_weights_keep_the_physics(kind, precision, monkeypatch):
    # So many points that the quadrature of a loop leaves nothing but the law's own work.
    monkeypatch.setattr(sys.modules[verify.__module__], "_LOOP_POINTS", 1024)
    material = wild(law_of(kind))
    checks = {c.property: c for c in verify(material, precision, samples=300)}
    # Nothing keeps units that are not convex from making a fibre softer than what it lies in.
    told = {"stiffness at rest"} if kind == "fibre" else set()
    failed = [f"{c.property}: {c.value:.3g} > {c.bar:g}" for n, c in checks.items() if not c.passed and n not in told]
    assert not failed, failed
    assert checks["rest state"].value == 0.0
    if precision is F64:
        for exact in ("objectivity", "isotropy", "symmetry", "energy", "closed loops"):
            assert checks[exact].value < 1e-12, exact
        assert "fibre" in kind or checks["tangent at rest"].value < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_stress_is_the_slope_of_the_energy_far_from_rest(kind):
    material = wild(law_of(kind))
    # The sizes of stretches reach the logarithm's lock before those of invariants without volume do.
    F = deformed(40, 0.3 if kind == "cann_stretches" else 0.5).requires_grad_()
    psi = material.energy(F)
    (P,) = torch.autograd.grad(psi.sum(), F)
    tau = material.kirchhoff(F)
    scale = tau.norm(dim=(1, 2), keepdim=True)
    assert float(((P @ F.mT - tau) / scale).detach().abs().max()) < 1e-12
    assert float(material.energy(EYE[None])) == 0.0
    assert "convex" not in kind or bool((psi > 0).all())


@pytest.mark.parametrize("precision", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("kind", COMPILED)
def test_warp_and_torch_agree_in_stress_and_every_column(kind, precision):
    material = wild(law_of(kind))
    points, F = Points(material, precision), deformed(20, 0.3).float().double().requires_grad_()
    theta = material.theta().expand(20, -1).clone().requires_grad_()
    tau = material.kirchhoff(F, theta=theta)
    G = torch.randn(20, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    bar, gradient_bar = (1e-13, 1e-11) if precision is F64 else (5e-6, 1e-4)
    assert float((points.stress(F) - tau.detach()).abs().max() / tau.detach().abs().max()) < bar
    want = torch.autograd.grad(tau, (F, theta), G)
    got = points.stress(F, cotangent=G)
    for key, w in zip(("F", "theta"), want, strict=True):
        size = w.abs().reshape(20, -1).amax(dim=0).clamp(min=1e-30 if precision is F64 else 1e-6)
        assert float(((got[key] - w).reshape(20, -1).abs() / size).max()) < gradient_bar, key


@pytest.mark.parametrize("kind", ["invariants", "convex", "stretches", "hencky", "fibre", "fibre_convex"])
def test_energy_grows_without_bound_in_collapse_and_stretch(kind):
    stretch = torch.diag(torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64))
    shear = 0.5 * (EYE[:, [1, 0, 2]] - torch.diag(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)))
    for seed in range(5):
        # The weights say where growth takes over; these let it happen within what float64 can tell.
        material = wild(law_of(kind), seed, 0.05)
        for direction in (EYE, -EYE, stretch, -stretch, shear):
            steps = torch.linspace(0.0, 8.0, 17, dtype=torch.float64)
            psi = material.energy(torch.linalg.matrix_exp(steps[:, None, None] * direction))
            assert bool((psi[-3:] > 0).all()) and bool((psi[-4:].diff() > 0).all()), (seed, direction)


def test_greater_stress_goes_with_greater_stretch_where_convex():
    for seed in range(10):
        material = wild(law_of("convex"), seed)
        stretch = torch.exp(torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
        tau = torch.diagonal(material.kirchhoff(torch.diag_embed(stretch)), dim1=1, dim2=2)
        assert bool((tau.gather(1, stretch.argsort(dim=1)).diff(dim=1) >= 0).all())


@pytest.mark.parametrize("kind", ["convex", "fibre_convex", "cann_convex"])
def test_polyconvex_energies_are_elliptic(kind):
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 300, 3, dtype=torch.float64, generator=g)
    F = deformed(300, 0.8)
    rank_one = (a / a.norm(dim=1, keepdim=True))[:, :, None] * (b / b.norm(dim=1, keepdim=True))[:, None, :]
    for seed in range(4):
        material = wild(law_of(kind), seed)

        def along(t: Tensor, F: Tensor = F, material: Material = material) -> Tensor:
            return material.energy(F + t[:, None, None] * rank_one).sum()

        t = torch.zeros(300, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(along(t), t, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), t)
        assert float(curve.min()) > 0.0


def test_theta_holds_named_columns_then_the_network():
    law = neural_energy(hidden=7)
    material = Material(law, "kelvin_voigt", rho0=1000.0, values=ELASTIC | {"viscosity": 3.0})
    assert material.names == ("mu", "bulk_modulus", "viscosity", "bulk_viscosity")
    theta = material.theta()
    assert theta.shape == (1, 4 + law.network.size) and material.laws.network_columns() == (2, 2 + law.network.size)
    assert material.native() == pytest.approx(
        {"mu": 1e5 / 2.6, "bulk_modulus": 1e5 / 1.2, "viscosity": 3.0, "bulk_viscosity": 0.0}
    )
    assert not theta.requires_grad
    material.free("network", "E")
    grads = torch.autograd.grad(
        (material.theta() * torch.arange(4.0 + law.network.size)).sum(),
        [*material.network.parameters(), material.raw["E"]],
    )
    assert all(bool((g != 0).any()) for g in grads)
    material.freeze()
    assert not material.theta().requires_grad
    assert bool((wave_modulus(material, deformed(16, 0.3)) > 0).all())


def test_values_and_weights_per_row():
    law = neural_energy(hidden=3)
    network = law.network.make(0)
    with torch.no_grad():
        for name, weight in list(network.named_parameters()):
            setattr(network, name, torch.nn.Parameter(torch.stack([weight, 2 * weight])))
    material = Material(law, rho0=1000.0, values=ELASTIC, network=network)
    first = Material(law, rho0=1000.0, values=ELASTIC)
    assert torch.equal(material.theta()[:1], first.theta()) and material.theta().shape[0] == 2
    several = Material(law, rho0=1000.0, values={"E": torch.tensor([1e5, 2e5]), "nu": 0.3})
    assert torch.equal(several.theta()[:1], first.theta()) and several.theta().shape[0] == 2


def test_the_same_sizes_are_the_same_law():
    assert neural_energy(hidden=9) is neural_energy("invariants", 9) is not neural_energy("hencky", 9)
    assert neural_energy() is get_law("neural_energy", ElasticLaw)
    assert neural_energy("hencky", 9).name == "neural_energy_hencky_9"
    with pytest.raises(InputError, match="Did you mean 'hencky'"):
        neural_energy("henky")
    with pytest.raises(InputError, match="no polyconvex energy"):
        neural_energy("hencky", convex=True)
    with pytest.raises(InputError, match="number of units"):
        neural_energy(hidden=0)
    with pytest.raises(InputError, match="not of this law"):
        Material(neural_energy(hidden=9), rho0=1.0, values=ELASTIC, network=neural_energy(hidden=8).network.make(0))
    with pytest.raises(InputError, match="not of this law"):
        Material("neo_hookean", rho0=1.0, values=ELASTIC, network=neural_energy().network.make(0))


def slopes_agree(material: Material, loss: Callable[[], Tensor], **more: Tensor) -> None:
    raw = {name: value for name, value in material.raw.items() if value.requires_grad}
    leaves = {**dict(material.network.named_parameters()), **raw, **more}
    for difference in compare(loss, {name: (leaf, 1.0) for name, leaf in leaves.items()}):
        assert difference.agrees(1e-6) and difference.size > 0, difference


@pytest.mark.parametrize("kind", ["invariants", "convex", "stretches", "hencky", "cann", "cann_stretches"])
def test_gradients_of_a_rollout_reach_the_weights(kind):
    material = wild(law_of(kind, **({} if kind.startswith("cann") else {"hidden": 3})))
    material.free("network", "E", "nu")
    axis = torch.linspace(0.32, 0.68, 4, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis, axis)
    n = len(x)
    model = Model(Grid((0.0, 0.0, 0.0), 0.1, (11, 11, 11)), torch.full((n,), 0.12**3, dtype=torch.float64), [material])
    g = torch.Generator().manual_seed(0)
    solver = SolverMPM(model, x, 3.0 * torch.randn(n, 3, dtype=torch.float64, generator=g), threads=1)
    start = replace(solver.initial_state(), F=deformed(n, 0.2))
    weights = torch.randn(n, 3, dtype=torch.float64, generator=g)

    def loss() -> Tensor:
        return (weights * solver.advance(start, None, 1e-3, 12).x).sum()

    slopes_agree(material, loss)


def test_fibres_are_each_particle_s_own_and_carry_gradients():
    law = law_of("fibre")
    g = torch.Generator().manual_seed(3)
    axis = torch.linspace(0.32, 0.68, 3, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis, axis)
    n = len(x)
    directions = torch.randn(n, 3, dtype=torch.float64, generator=g)
    network = wild(law).network
    material = Material(
        law, "kelvin_voigt", rho0=1000.0, values=ELASTIC | {"viscosity": 5.0}, network=network, fibre=directions
    )
    material.free("network", "E")
    model = Model(Grid((0.0, 0.0, 0.0), 0.12, (10, 10, 10)), torch.full((n,), 0.15**3, dtype=torch.float64), [material])
    solver = SolverMPM(model, x, torch.randn(n, 3, dtype=torch.float64, generator=g), threads=1)
    start = replace(solver.initial_state(), F=deformed(n, 0.2))
    assert torch.allclose(start.h, directions / directions.norm(dim=1, keepdim=True))
    end = solver.advance(start, None, 1e-3, 3)
    assert torch.equal(end.h, start.h)
    turned = solver.advance(replace(start, h=start.h.roll(1, dims=0)), None, 1e-3, 3)
    assert not torch.equal(end.x, turned.x)
    weights = torch.randn(n, 3, dtype=torch.float64, generator=g)
    h = start.h.clone().requires_grad_()

    def loss() -> Tensor:
        return (weights * solver.advance(replace(start, h=h), None, 1e-3, 8).x).sum()

    slopes_agree(material, loss, h=h)


def test_fibres_in_a_solid_and_in_closed_form():
    material = wild(law_of("fibre"))
    F = torch.diag(torch.tensor([1.3, 1.0, 1.0], dtype=torch.float64))[None]
    along, across = (material.kirchhoff(F, h=EYE[i : i + 1])[0] for i in (0, 1))
    assert torch.allclose(along, torch.diag(along.diagonal())) and float((along - across).abs().max()) > 1.0
    material.free("network", "E")
    solver = block((2, 1, 1), 0.1, material)
    start = solver.initial_state()
    g = torch.Generator().manual_seed(0)
    start = start.replace(w=3.0 * torch.randn(start.w.shape, dtype=torch.float64, generator=g))
    weights = torch.randn(solver.particles(start).x.shape, dtype=torch.float64, generator=g)
    assert 0.0 < solver.stable_dt(start) < 0.1
    assert float(solver.energy(start)["elastic"].detach()) == 0.0
    slopes_agree(material, lambda: (weights * solver.particles(solver.advance(start, None, 2e-3, 6)).x).sum())


def test_what_a_law_with_fibres_refuses():
    law = law_of("fibre")
    with pytest.raises(InputError, match="history of its own"):
        Material(law, None, "maxwell_1", rho0=1.0, values=ELASTIC | {"branch_modulus_1": 1.0, "relaxation_time_1": 1.0})
    with pytest.raises(InputError, match="finite and not zero"):
        Material(law, rho0=1.0, values=ELASTIC, fibre=(0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="has no fibre"):
        Material("neo_hookean", rho0=1.0, values=ELASTIC, fibre=(1.0, 0.0, 0.0))
    with pytest.raises(InputError, match="of isotropic materials"):
        table_stress(Material(law, rho0=1.0, values=ELASTIC), "uniaxial", torch.ones(2))


def test_a_solid_carries_gradients_to_more_weights_than_a_loop_unrolls():
    material = wild(neural_energy(hidden=20), size=0.1)
    material.free("network", "E", "nu")
    solver = block((2, 1, 1), 0.1, material)
    g = torch.Generator().manual_seed(0)
    start = solver.initial_state()
    start = start.replace(w=1.0 * torch.randn(start.w.shape, dtype=torch.float64, generator=g))
    weights = torch.randn(solver.particles(start).x.shape, dtype=torch.float64, generator=g)
    # The linearised solver and the point's own Hessian see the same moduli at rest.
    same = block((2, 1, 1), 0.1, Material("neo_hookean", rho0=1000.0, values=ELASTIC))
    assert solver.stable_dt(solver.initial_state()) == pytest.approx(same.stable_dt(same.initial_state()))
    slopes_agree(material, lambda: (weights * solver.particles(solver.advance(start, None, 1e-3, 10)).x).sum())


def test_a_readable_network_prints_itself_and_leaves_out_what_is_zero():
    material = Material(cann(), rho0=1000.0, values={"mu": 2e4, "bulk_modulus": 1e5})
    network = material.network
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.linear[0] = network.volume[0] = 1.0
        network.bend[0, 0] = 0.5
    assert (
        formula(material)
        == "psi = 10 kPa K1 + 5 kPa K1^2 + 25 kPa (J^2 - 1 - 2 ln J), K1 = J^(-2/3) I1 - 3, K2 = J^(-4/3) I2 - 3"
    )
    F = deformed(20, 0.3)
    B, J = F @ F.mT, torch.linalg.det(F)
    K1 = J ** (-2 / 3) * torch.diagonal(B, dim1=1, dim2=2).sum(dim=1) - 3
    want = 1e4 * K1 + 5e3 * K1**2 + 2.5e4 * (J**2 - 1 - 2 * J.log())
    assert torch.allclose(material.energy(F), want, rtol=1e-12)
    network.linear.data[1] = network.bend.data[1, 2] = 0.1
    network.prune(0.02)
    assert float(network.linear[1]) == float(network.bend[1, 2]) == 0.0 and float(network.bend[0, 0]) == 0.5


def corotated(**values: float) -> Material:
    """Two terms of stretches, which are fixed corotated elasticity."""
    material = Material(cann("stretches"), rho0=1000.0, values=values)
    with torch.no_grad():
        for weight in material.network.parameters():
            weight.zero_()
        material.network.linear[0] = material.network.volume[3] = 1.0
    return material


def test_two_terms_of_stretches_are_fixed_corotated_elasticity():
    material = corotated(mu=2e4, lam=3e4)
    words = "S = 2 |V - I|^2, T = (tr V - 3)^2/2, V^2 = F F^T"
    assert formula(material) == f"psi = 10 kPa S + 15 kPa (J - 1)^2, {words}"
    known = Material("fixed_corotated", rho0=1000.0, values={"mu": 2e4, "lam": 3e4})
    equal = deformed(3, 0.0) @ torch.diag(torch.tensor([1.2, 1.2, 0.8], dtype=torch.float64)) @ deformed(3, 0.0, 7)
    F = torch.cat([EYE[None], deformed(1, 0.0), 1.3 * deformed(1, 0.0), equal, deformed(20, 0.3)])
    assert torch.allclose(material.energy(F), known.energy(F), rtol=1e-12, atol=1e-9)
    G = torch.randn(F.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mine, theirs = Points(material, F64), Points(known, F64)
    assert torch.allclose(mine.stress(F), theirs.stress(F), rtol=1e-12, atol=1e-9)
    assert torch.allclose(mine.stress(F, cotangent=G)["F"], theirs.stress(F, cotangent=G)["F"], rtol=1e-11, atol=1e-8)


def test_terms_of_the_volume_share_what_stretches_leave_of_the_bulk_modulus():
    material = corotated(mu=2e4, lam=3e4)
    network = material.network
    network.linear.data[1] = 2.0
    assert "24 kPa T + 3 kPa (J - 1)^2" in formula(material)
    network.prune(0.3)
    assert "15 kPa" not in formula(material) and "30 kPa T, " in formula(material)
    # nu = 0: S has all of the bulk modulus, and the shares of the volume stay what they were.
    zero = torch.tensor([1e4] + 11 * [0.0], dtype=torch.float64)
    shares = network.volume.clone()
    assert network.take(zero) == pytest.approx((2e4, 4e4 / 3.0, 1.0)) and torch.equal(network.volume, shares)
    assert formula(Material(cann("stretches"), rho0=1.0, values={"mu": 2e4, "lam": 0.0}, network=network)) == (
        "psi = 10 kPa S, S = 2 |V - I|^2, T = (tr V - 3)^2/2, V^2 = F F^T"
    )
    with pytest.raises(InputError, match="no polyconvex terms in 'stretches'"):
        cann("stretches", convex=True)


def test_starting_weights_follow_strains_but_not_those_of_the_volume():
    drawn, scaled = cann("stretches").network.make(0), cann("stretches").network.make(0)
    changed = span_weights(scaled, deformed(50, 0.05))
    assert torch.equal(drawn.linear, scaled.linear) and torch.equal(drawn.bend[1], scaled.bend[1])
    assert torch.equal(drawn.volume, scaled.volume) and torch.equal(changed["linear"], torch.ones(2).double())
    assert bool((scaled.bend[0] > 2.0 * drawn.bend[0]).all())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wide", "cann_hencky")])
def test_a_linear_fit_becomes_weights(kind):
    truth = wild(law_of(kind))
    network, named, theta = copy.deepcopy(truth.network), len(truth.elastic.params), truth.theta()
    rows = torch.eye(len(network.coefficients), dtype=torch.float64)
    # Linear in the coefficients: what theta holds of them is found by one linear solve, moduli included.
    shear, bulk, columns = network.assemble(torch.cat([rows, 0.0 * rows[:1]]))
    table = torch.cat([shear, bulk, columns], dim=1)
    want = torch.cat([*(m[:, None] for m in network.encoder.moduli(theta)), theta[:, named:]], dim=1)
    fit = torch.linalg.lstsq((table[:-1] - table[-1:]).T, (want - table[-1:]).T).solution[:, 0]
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight += 0.0 if name in ("inner", "bias", "shape") else 1.0
    found = network.take(fit)
    assert found == pytest.approx((float(want[0, 0]), float(want[0, 1]), 1.0), rel=1e-9)
    back = network.columns(theta[:, :named])
    assert torch.allclose(back, theta[:, named:], rtol=1e-8, atol=1e-7)
    if kind.startswith("cann"):
        with pytest.raises(InputError, match="negative weight"):
            network.take(fit - 2.0 * fit * (rows[2] > 0))
        return
    units = torch.tensor([c.name.startswith("unit") for c in network.coefficients])
    share = network.take(torch.where(units, 50.0 * fit, fit))[2]
    assert (0.0 < share < 1.0) == ("convex" in kind) and bool(torch.isfinite(network.columns(theta[:, :named])).all())
    with pytest.raises(InputError, match="modulus of"):
        network.take(-fit)
    if "convex" in kind:
        with pytest.raises(InputError, match="is negative, and this energy is convex"):
            network.take(torch.where(units, -fit, fit))


def test_sixteen_units_learn_a_law_that_is_not_among_them():
    truth = Material("fixed_corotated", rho0=1000.0, values={"E": 1e5, "nu": 0.2})
    material = Material(neural_energy(), rho0=1000.0, values={"E": 7e4, "nu": 0.3})
    material.free("network", "E", "nu")
    seen, unseen = deformed(200, 0.15), deformed(200, 0.15, seed=5)
    want = truth.kirchhoff(seen)
    weights = [*material.network.parameters(), *material.raw.values()]
    adam = torch.optim.Adam(weights, lr=0.03)
    for _step in range(500):
        adam.zero_grad()
        ((material.kirchhoff(seen) - want) / want.norm()).square().sum().backward()
        adam.step()
    got, exact = material.kirchhoff(unseen).detach(), truth.kirchhoff(unseen)
    assert float((got - exact).norm() / exact.norm()) < 0.02


def test_the_time_step_looks_at_strains_that_a_learned_law_may_reach():
    soft = Material("neo_hookean", rho0=1000.0, values=ELASTIC)
    assert reach_share(soft) == 1.0
    material = wild(law_of("invariants"))
    share = reach_share(material, 0.25)
    assert 0.1 < reach_share(material, 0.4) <= share < 1.0
    rest = wave_modulus(material, EYE[None])
    everywhere = wave_modulus(material, strains_within(0.25, 6))
    assert float((rest / everywhere.max()).sqrt()) > 0.95 * share
    several = Material(material.elastic, rho0=1000.0, values={"E": torch.tensor([1e5, 2e5]), "nu": 0.3})
    assert 0.5 < reach_share(several) < 1.0
