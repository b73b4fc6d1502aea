"""Learned strengths and viscosities dissipate for any weights, in every reader, with gradients to their weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from solid_bodies import block
from test_laws_neural import EYE, deformed
from test_wide import check
from test_wide import strained as wide_strained
from torch import Tensor

from physim.errors import InputError
from physim.fit.differences import compare
from physim.fit.material_file import write_materials
from physim.fit.space import Quantity, Space
from physim.fit.uncertainty import Estimate
from physim.laws import InelasticLaw, Material, ViscousLaw, get_law
from physim.laws.neural import neural_energy, neural_plastic, neural_viscous
from physim.laws.points import Points
from physim.laws.verify import verify
from physim.numeric import F32, F64
from physim.scene.materials import make_material, read_material_file
from physim.scene.schema import scene_schema
from physim.scene.weights_file import read_weights, write_weights
from physim.sim.model import Grid, Model
from physim.solvers.mpm.solver import SolverMPM

torch.set_num_threads(1)
SIZE = 5
STEPS = 100
VALUES = {"E": 1e5, "nu": 0.3, "viscosity": 3.0, "bulk_viscosity": 1.0, "yield_stress": 800.0, "friction_angle": 0.4}


def with_weights(material: Material, seed: int, size: float = 1.5) -> Material:
    """The material with weights far from their start."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for network in material.networks:
            for name, weight in network.named_parameters() if network else ():
                weight += size * torch.randn(weight.shape, dtype=torch.float64, generator=g)
                weight += 3.0 if name == "outer" and network is material.inelastic_network else 0.0
    return material


def wild(seed: int = 1, **values: float) -> Material:
    law, flow = neural_viscous(SIZE), neural_plastic(SIZE)
    return with_weights(Material("hencky", law, flow, rho0=1000.0, values=VALUES | values), seed)


def plain(**values: float) -> Material:
    """A learned strength whose units are nothing."""
    material = Material("hencky", None, neural_plastic(SIZE), rho0=1000.0, values={"E": 1e5, "nu": 0.3, **values})
    material.inelastic_network.outer.data.fill_(-200.0)
    return material


def strength(material: Material, pressure: float, strain: float) -> float:
    """Norm of the stress deviator at yield [Pa], by shearing a pressed body."""
    native = material.native()
    trace = -pressure / (native["lam"] + 2.0 / 3.0 * native["mu"])
    far = torch.diag(torch.tensor([3.0, -3.0, 0.0], dtype=torch.float64) + trace / 3.0)
    h = torch.full((1, 1), strain, dtype=torch.float64)
    F, _ = material.project(torch.linalg.matrix_exp(far)[None], EYE[None], 1e-3, h=h)
    tau = material.kirchhoff(F, h=h)[0].detach()
    return float((tau - tau.trace() / 3.0 * EYE).norm())


@pytest.mark.parametrize("precision", [F64, F32], ids=["f64", "f32"])
def test_any_weights_dissipate(precision):
    for seed in range(3):
        checks = verify(wild(seed, yield_stress=400.0 * seed), precision, samples=300)
        failed = [f"{c.property}: {c.value:.3g} > {c.bar:g}" for c in checks if not c.passed]
        assert not failed, failed
        names = {c.property for c in checks}
        assert {"viscous dissipation", "plastic dissipation", "return map objectivity"} <= names


def test_flow_gives_energy_away_and_keeps_the_volume_but_at_the_tip():
    for seed in range(10):
        material = wild(seed)
        F, g = deformed(400, 0.4, seed), torch.Generator().manual_seed(seed)
        h = 2.0 * torch.rand(400, 1, dtype=torch.float64, generator=g) ** 2
        theta = material.theta()
        new, h_new = material.project(F, F, 1e-3, h=h, theta=theta)
        lost = material.energy(F) - material.energy(new)
        assert bool((lost >= -1e-11 * material.energy(F)).all()) and bool((h_new >= h).all())
        growth = torch.log(torch.linalg.det(new) / torch.linalg.det(F))
        assert bool((growth < 1e-13).all())
        assert bool((growth[torch.linalg.det(F) <= 1.0].abs() < 1e-13).all())
        # Once more changes nothing but what hardening or softening allows.
        again, _ = material.project(new, EYE.expand(400, 3, 3), 1e-3, h=h, theta=theta)
        assert float((again - new).abs().max()) < 1e-12


@pytest.mark.parametrize("precision", [F32, F64], ids=["f32", "f64"])
def test_nothing_changes_to_the_last_bit_where_nothing_yields(precision):
    material = wild(yield_stress=2e5)
    F = deformed(200, 0.1).to(precision.torch).double()
    h = torch.rand(200, 1, dtype=torch.float64).to(precision.torch).double()
    C, D = (strength(material, 0.0, a) for a in (0.0, 1.0))
    tau = material.kirchhoff(F, h=h)
    trace = tau.diagonal(dim1=1, dim2=2).mean(dim=1)
    inside = ((tau - trace[:, None, None] * EYE).norm(dim=(1, 2)) < 0.4 * min(C, D)) & (trace < 0.4 * min(C, D))
    assert int(inside.sum()) > 50
    for new, now in (Points(material, precision).project(F, F, 1e-3, h), material.project(F, F, 1e-3, h=h)):
        assert torch.equal(new[inside], F[inside]) and torch.equal(now[inside], h[inside])


@pytest.mark.parametrize(
    ("name", "values", "mine"),
    [
        ("von_mises", {"yield_stress": 3e3}, {"yield_stress": 3e3}),
        ("drucker_prager", {"friction_angle": 0.5}, {"yield_stress": 0.0, "friction_angle": 0.5}),
        ("drucker_prager", {"friction_angle": 0.5, "cohesion": 2e3}, {"friction_angle": 0.5}),
    ],
)
def test_without_units_it_is_von_mises_or_drucker_prager(name, values, mine):
    known = Material("hencky", None, name, rho0=1000.0, values={"E": 1e5, "nu": 0.3, **values})
    if "cohesion" in values:
        phi = torch.tensor(values["friction_angle"], dtype=torch.float64)
        mine = mine | {"yield_stress": float(24**0.5 / (3 - phi.sin()) * phi.cos() * values["cohesion"])}
    F = deformed(400, 0.2)
    wanted, h = known.project(F, F, 1e-3)
    found, mine_h = plain(**mine).project(F, F, 1e-3)
    assert float((found - wanted).abs().max()) < 1e-13
    assert known.history_size == 0 or float((mine_h - h).abs().max()) < 1e-13
    assert 100 < int((found != F).any(dim=(1, 2)).sum())


def test_strength_is_positive_and_rises_with_pressure_and_strain_does_what_it_likes():
    told = set()
    for seed in range(6):
        material = wild(seed)
        Y = torch.tensor([[strength(material, p, a) for p in (0.0, 1e2, 1e3, 3e3, 1e4)] for a in (0.0, 0.2, 1.0)])
        assert bool((Y.diff(dim=1) >= 0.0).all()) and bool((Y >= 0.0).all())
        assert float(Y[0, 0]) == pytest.approx(800.0, rel=1e-9)
        told.add(bool(Y[2, 0] > Y[0, 0]))
    assert told == {True, False}


def test_viscosity_is_the_named_one_at_the_reference_rate():
    material = wild(reference_rate=5.0)
    L = torch.zeros(4, 3, 3, dtype=torch.float64)
    L[:, 0, 1] = torch.tensor([0.0, 0.5, 5.0, 50.0])
    eta = material.kirchhoff(EYE.expand(4, 3, 3), L)[1:, 0, 1] / L[1:, 0, 1]
    assert float(eta[1]) == pytest.approx(3.0, rel=1e-12) and bool((eta > 0).all())
    assert float((eta[[0, 2]] / 3.0).log().abs().min()) > 0.01
    bounds = material.laws.network_columns("viscous"), material.laws.network_columns("inelastic")
    assert bounds == ((6, 6 + 3 * SIZE), (9 + 3 * SIZE, 9 + 7 * SIZE))


@pytest.mark.parametrize("precision", [F32, F64], ids=["f32", "f64"])
def test_many_at_once_one_by_one_and_torch_agree(precision):
    material, (F, C) = wild(yield_stress=3e3), wide_strained(3)
    check(material, F[:24], C[:24], precision, each=False, smooth=slice(2, None))
    points, g = Points(material, precision), torch.Generator().manual_seed(3)
    F = F[2:24].to(precision.torch).double().requires_grad_()
    h = torch.rand(22, 1, dtype=torch.float64, generator=g).requires_grad_()
    theta = material.theta().detach().expand(22, -1).clone().requires_grad_()
    G, H = torch.randn(22, 3, 3, dtype=torch.float64, generator=g), torch.randn(22, 1, dtype=torch.float64, generator=g)
    bar, gradient_bar = (1e-13, 1e-10) if precision is F64 else (5e-6, 5e-4)
    pairs = [
        (points.stress(F, C[2:24], h, cotangent=G), [material.kirchhoff(F, C[2:24], h, theta)], [G], ("F", "theta")),
        (
            points.project(F, F.detach(), 1e-3, h, cotangent=(G, H)),
            list(material.project(F, F.detach(), 1e-3, h=h, theta=theta)),
            [G, H],
            ("F", "h", "theta"),
        ),
    ]
    new, now = points.project(F, F.detach(), 1e-3, h)
    F_torch, h_torch = (t.detach() for t in pairs[1][1])
    assert float((new - F_torch).abs().max()) < bar and float((now - h_torch).abs().max()) < 50 * bar
    leaves = {"F": F, "h": h, "theta": theta}
    for got, outputs, weights, names in pairs:
        want = torch.autograd.grad(outputs, [leaves[n] for n in names], weights)
        for name, w in zip(names, want, strict=True):
            scale = w.abs().reshape(22, -1).amax(dim=0).clamp(min=1e-30 if precision is F64 else 1e-6)
            assert float(((got[name] - w).reshape(22, -1).abs() / scale).max()) < gradient_bar, name


def slopes_agree(material: Material, loss) -> None:
    leaves = {"yield_stress": material.raw["yield_stress"], "viscosity": material.raw["viscosity"]}
    for kind, network in zip(("elastic", "viscous", "inelastic"), material.networks, strict=True):
        leaves |= {f"{kind} {n}": w for n, w in network.named_parameters()} if network else {}
    for difference in compare(loss, {name: (leaf, 1.0) for name, leaf in leaves.items()}):
        assert difference.size > 0 and (difference.agrees(1e-5) or difference.kink), difference


def test_gradients_of_a_rollout_reach_the_weights():
    material = wild()
    material.free("viscous_network", "inelastic_network", "yield_stress", "viscosity")
    axis = torch.linspace(0.32, 0.68, 3, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis, axis)
    n = len(x)
    model = Model(Grid((0.0, 0.0, 0.0), 0.12, (10, 10, 10)), torch.full((n,), 0.15**3, dtype=torch.float64), [material])
    g = torch.Generator().manual_seed(0)
    solver = SolverMPM(model, x, 3.0 * torch.randn(n, 3, dtype=torch.float64, generator=g), threads=1)
    start = replace(solver.initial_state(), F=deformed(n, 0.1))
    weights = torch.randn(n, 3, dtype=torch.float64, generator=g)
    slopes_agree(material, lambda: (weights * solver.advance(start, None, 1e-3, 8).x).sum())
    end = solver.advance(start, None, 1e-3, 8)
    assert int((end.h.detach() > 0.0).sum()) > 20
    material.freeze()
    assert not material.theta().requires_grad


def test_gradients_in_a_solid():
    material = wild()
    material.free("viscous_network", "inelastic_network", "yield_stress", "viscosity")
    solver = block((2, 1, 1), 0.1, material)
    g = torch.Generator().manual_seed(0)
    start = solver.initial_state()
    start = start.replace(w=3.0 * torch.randn(start.w.shape, dtype=torch.float64, generator=g))
    weights = torch.randn(solver.particles(start).x.shape, dtype=torch.float64, generator=g)
    slopes_agree(material, lambda: (weights * solver.particles(solver.advance(start, None, 1e-3, 6)).x).sum())


def test_three_networks_in_one_material():
    elastic = neural_energy("hencky", 3)
    made = neural_plastic(4).network.make(7)
    material = Material(
        elastic, neural_viscous(2), neural_plastic(4), rho0=1000.0, values=VALUES, inelastic_network=made
    )
    theta, laws = material.theta(), material.laws
    assert theta.shape == (1, laws.width) and material.inelastic_network is made
    native = material.native()
    assert native["viscosity"] == pytest.approx(3.0) and native["friction_angle"] == pytest.approx(0.4)
    first, last = laws.network_columns("inelastic")
    named = torch.tensor([[800.0, 0.4, 1e3]], dtype=torch.float64)
    assert torch.allclose(theta[:, first:last], made.columns(named), rtol=1e-14)
    material.free("network", "viscous_network", "inelastic_network")
    grads = torch.autograd.grad(material.theta().sum(), [w for net in material.networks for w in net.parameters()])
    assert all(bool((grad != 0).any()) for grad in grads)
    each = {"E": 1e5, "nu": 0.3, "yield_stress": torch.tensor([1e3, 2e3])}
    several = Material("hencky", None, "neural_plastic", rho0=1.0, values=each)
    assert several.theta().shape == (2, 5 + 32)


def test_the_same_size_is_the_same_law_and_another_one_s_weights_are_refused():
    assert neural_plastic(5) is neural_plastic(5) is not neural_plastic(6)
    assert neural_plastic() is get_law("neural_plastic", InelasticLaw)
    assert neural_viscous() is get_law("neural_viscous", ViscousLaw)
    for wrong in (0, 17, 2.5):
        with pytest.raises(InputError, match="number of units; give 1 to 16"):
            neural_plastic(wrong)
    values = {"E": 1e5, "nu": 0.3, "yield_stress": 1.0}
    for network in (neural_plastic(6).network.make(0), neural_viscous(5).network.make(0)):
        with pytest.raises(InputError, match="weights in inelastic_network are not of this law"):
            Material("hencky", None, neural_plastic(5), rho0=1.0, values=values, inelastic_network=network)
    with pytest.raises(InputError, match="no parameter 'network'"):
        Material("hencky", None, neural_plastic(5), rho0=1.0, values=values).free("network")


FILE = """
title: clay
law: hencky
E: 100 kPa
nu: 0.3
density: 1000 kg/m^3
viscous: {law: neural_viscous, viscosity: 3 Pa s, network: {hidden: 3, seed: 2}}
inelastic: {law: neural_plastic, yield_stress: 1 kPa, friction_angle: 30 deg, network: clay.safetensors}
"""


def test_files_keep_every_bit(tmp_path: Path):
    made = wild().inelastic_network
    write_weights(tmp_path / "clay.safetensors", made)
    back = read_weights(tmp_path / "clay.safetensors")
    assert back.plan == made.plan
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), back.parameters(), strict=True))
    (tmp_path / "clay.yaml").write_text(FILE)
    spec = read_material_file(tmp_path / "clay.yaml")
    material = make_material(spec)
    assert material.inelastic is neural_plastic(SIZE) and material.viscous is neural_viscous(3)
    assert torch.equal(material.inelastic_network.inner, made.inner)
    assert torch.equal(material.viscous_network.inner, neural_viscous(3).network.make(2).inner)
    assert make_material(spec).inelastic_network is not material.inelastic_network

    scene = SimpleNamespace(
        materials={"clay": spec},
        spec=SimpleNamespace(title="clay", data=[]),
        file=SimpleNamespace(name="clay.yaml"),
    )
    estimate = Estimate("materials.clay.inelastic.yield_stress", "Pa", 9e2, 8e2, 1e3, 50.0, True)
    uncertainty = SimpleNamespace(estimates=[estimate], combined=[])
    space = Space((Quantity("materials.clay.inelastic.yield_stress", "Pa", 9e2),))
    result = SimpleNamespace(
        uncertainty=uncertainty, assumptions=[], level=0.9, space=space, raw=space.start(), learned={}
    )
    (written,) = write_materials(scene, result, tmp_path / "out")
    again = make_material(read_material_file(written))
    for mine, theirs in zip(again.networks[1:], material.networks[1:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert float(again.values()["yield_stress"]) == pytest.approx(900.0)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("network: clay.safetensors", "network: {hiden: 3}", "inelastic.network.*Did you mean 'hidden'"),
        ("network: clay.safetensors", "network: {encoder: hencky}", "unknown key 'encoder'"),
        ("network: clay.safetensors", "network: no.safetensors", "no such file"),
        ("neural_plastic, yield", "von_mises, network: {}, yield", "'von_mises' has no network.*neural_plastic"),
        ("network: clay.safetensors", "netwrk: {}", "unknown key 'netwrk'. Did you mean 'network'"),
    ],
)
def test_a_wrong_network_is_one_clear_error(tmp_path: Path, old: str, new: str, told: str):
    text = FILE.replace(old, new).replace(", network: clay.safetensors}", "}")
    (tmp_path / "clay.yaml").write_text(text.replace("friction_angle: 30 deg", "") if "von_mises" in new else text)
    with pytest.raises(InputError, match=told):
        read_material_file(tmp_path / "clay.yaml")


def test_the_schema_knows_sizes_of_learned_flow():
    for part in ("viscous", "inelastic"):
        inner = scene_schema()["$defs"]["MaterialPart"]["properties"][part]["anyOf"][1]
        of_branches = {"branches", "spring", "reads"} if part == "inelastic" else set()
        sizes = {"file", "seed", "hidden"} | of_branches
        assert set(inner["properties"]["network"]["anyOf"][1]["properties"]) == sizes


def trials(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Trial deformations of Hencky strains near 0.05, pressed and pulled, and plastic strains to 0.5."""
    g = torch.Generator().manual_seed(seed)
    F = deformed(n, 0.05, seed) * torch.exp(0.02 * torch.randn(n, 1, 1, dtype=torch.float64, generator=g) - 0.01)
    return F, 0.5 * torch.rand(n, 1, dtype=torch.float64, generator=g)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("von_mises", {"yield_stress": 2e3, "hardening": 5e3}),
        ("drucker_prager", {"friction_angle": 0.6, "cohesion": 300.0}),
    ],
)
def test_a_strength_is_learned_from_stresses(name, values):
    known = Material("hencky", None, name, rho0=1000.0, values={"E": 1e5, "nu": 0.3, **values})
    start = {"yield_stress": 1e3, "friction_angle": 0.05 if name == "von_mises" else 0.3}
    material = Material("hencky", None, neural_plastic(SIZE), rho0=1000.0, values={"E": 1e5, "nu": 0.3, **start})
    material.free("inelastic_network", "yield_stress", "friction_angle")
    leaves = [p for p in material.parameters() if p.requires_grad]
    adam = torch.optim.Adam(leaves, lr=0.1)

    def stress(of: Material, F: Tensor, h: Tensor) -> Tensor:
        past = h if of.history_size else h[:, :0]
        return of.kirchhoff(of.project(F, F, 1e-3, h=past)[0], h=past)

    F, h = trials(60, 0)
    want = stress(known, F, h).detach()
    for _step in range(STEPS):
        adam.zero_grad()
        ((stress(material, F, h) - want) / want.norm()).square().sum().backward()
        adam.step()
    F, h = trials(200, 5)
    exact = stress(known, F, h).detach()
    assert float((stress(material, F, h).detach() - exact).norm() / exact.norm()) < 0.03
