"""Every registered law inherits every property of `verify`, and laws that are wrong are found out."""

from __future__ import annotations

import math

import pytest
import torch
import warp as wp

from physim.errors import InputError
from physim.laws import LAWS, ElasticLaw, InelasticLaw, Material, ViscousLaw, get_law, lame, register
from physim.laws.core import elastic_params
from physim.laws.elastic import green_strain, hencky_kirchhoff, lame_moduli
from physim.laws.example import example_material
from physim.laws.parameters import LAME, Param
from physim.laws.points import Points
from physim.laws.stability import stable_substep, viscous_modulus, wave_modulus
from physim.laws.verify import verify
from physim.numeric import F32, F64, history, mat33, numeric, params, real
from physim.tensor import deviator, exp_sym, log_strain, sym

torch.set_num_threads(1)
EYE = torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize("precision", [F64, F32], ids=["f64", "f32"])
@pytest.mark.parametrize("name", LAWS)
def test_law_has_every_property_of_its_kind(name, precision):
    checks = verify(name, precision, samples=10_000 if precision is F64 else 2_000)
    assert len(checks) >= 3
    failed = [f"{c.property}: {c.value:.3g} > {c.bar:g} ({c.note})" for c in checks if not c.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", LAWS)
def test_law_says_what_it_is(name):
    law = LAWS[name]
    assert law.cite and law.summary
    if isinstance(law, ElasticLaw):
        assert law.energy.__doc__.startswith("Energy psi = ") and law.kirchhoff.__doc__.startswith("Stress tau = ")
    elif isinstance(law, ViscousLaw):
        assert law.kirchhoff.__doc__.startswith("Stress tau = ")
    else:
        assert len(law.project.__doc__) > 40
    for p in law.params:
        assert p.unit and p.doc and p.lower < p.upper


# ---- laws that are wrong


@numeric
def stvk_mixed(F: mat33, theta: params) -> mat33:
    """A first-Piola shear part beside a Kirchhoff volume part."""
    E = green_strain(F)
    return real(2.0) * theta[0] * F @ E + theta[1] * wp.trace(E) * F @ wp.transpose(F)


@numeric
def negative_viscosity(F: mat33, L: mat33, theta: params) -> mat33:
    """Pushes in the direction of the flow."""
    return real(-2.0) * theta[0] * deviator(sym(L))


@numeric
def overshooting(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """Flows away from the yield surface."""
    return exp_sym(theta[0] * deviator(log_strain(F_trial))) @ F_trial, h


@numeric
def spatial_fibre(F: mat33, theta: params) -> mat33:
    """Stiff along the x axis of space: not frame indifferent."""
    b = F @ wp.transpose(F)
    return (
        theta[0]
        * (b[0, 0] - real(1.0))
        * mat33(real(1.0), real(0.0), real(0.0), real(0.0), real(0.0), real(0.0), real(0.0), real(0.0), real(0.0))
    )


def failures(law) -> set[str]:
    return {c.property for c in verify(law, F64, samples=500) if not c.passed}


def test_first_piola_mixed_with_kirchhoff_is_found_out():
    wrong = ElasticLaw("stvk_mixed", LAME, stvk_mixed, None, lame_moduli, "none", "wrong on purpose")
    assert {"symmetry", "closed loops", "energy stated"} <= failures(wrong)


def test_stress_of_another_energy_is_found_out():
    stvk = LAWS["stvk"]
    wrong = ElasticLaw("stvk_hencky", LAME, hencky_kirchhoff, stvk.energy, lame_moduli, "none", "wrong on purpose")
    assert failures(wrong) == {"energy", "incompressible tests"}


def test_wrong_modulus_and_lost_objectivity_are_found_out():
    fibre = ElasticLaw("spatial_fibre", LAME, spatial_fibre, None, lame_moduli, "none", "wrong on purpose")
    assert {"objectivity", "tangent at rest"} <= failures(fibre)


def test_negative_dissipation_is_found_out():
    viscous = ViscousLaw(
        "negative_viscosity", (Param("viscosity", "Pa s", typical=1.0),), negative_viscosity, "none", "wrong"
    )
    assert failures(viscous) == {"viscous dissipation"}
    plastic = InelasticLaw(
        "overshooting", (Param("rate", "-", typical=0.1),), overshooting, "none", "wrong", needs=("mu", "lam")
    )
    assert failures(plastic) == {"plastic dissipation"}


def test_a_material_is_verified_with_its_own_values():
    values = {"E": 2e5, "nu": 0.45, "viscosity": 10.0}
    material = Material("neo_hookean", "kelvin_voigt", rho0=1000.0, values=values)
    checks = verify(material, F64, samples=200)
    assert all(c.passed for c in checks)
    tangent = next(c for c in checks if c.property == "tangent at rest")
    assert f"{2e5 / 2.9:.6g}" in tangent.note


# ---- return maps and relaxation in closed form


def test_von_mises_in_closed_form():
    values = {"E": 3e5, "nu": 0.25, "yield_stress": 5e3, "hardening": 2e4}
    material = Material("hencky", None, "von_mises", rho0=1000.0, values=values)
    mu = 3e5 / 2.5
    e = 0.1 * torch.diag(torch.tensor([1.0, -0.4, -0.6], dtype=torch.float64))[None]
    F, h = material.project(torch.linalg.matrix_exp(e), EYE[None], 1e-3)
    flow = (2 * mu * float(e.norm()) - 5e3) / (2 * mu + 2e4)
    assert float(h[0, 0]) == pytest.approx(flow, rel=1e-12)
    tau = material.kirchhoff(F, h=h)
    assert float(tau.norm()) == pytest.approx(5e3 + 2e4 * flow, rel=1e-12)
    again, h_again = material.project(F, EYE[None], 1e-3, h=h)
    assert float((again - F).abs().max()) < 1e-13 and float((h_again - h).abs().max()) < 1e-13


def test_sand_without_cohesion_opens_freely_and_closes_again():
    opened = 1.05 * EYE[None]
    for name in ("drucker_prager", "drucker_prager_loose"):
        material = example_material(name)
        material.set(cohesion=0.0)
        F, h = material.project(opened, opened, 1e-3)
        assert float((F - EYE).abs().max()) < 1e-14
        back, h = material.project(F / 1.05, EYE[None] / 1.05, 1e-3, h=h)
        pressure = -float(torch.diagonal(material.kirchhoff(back, h=h)[0]).sum()) / 3
        assert (abs(pressure) < 1e-6) == (name == "drucker_prager_loose")
        assert name == "drucker_prager" or float(h.abs().max()) < 1e-14


def test_maxwell_relaxes_exactly_and_tracks_its_time():
    G, T = 3e4, 0.1
    values = {"mu": 1e4, "lam": 2e4, "branch_modulus_1": G, "relaxation_time_1": T}
    material = Material("neo_hookean", None, "maxwell_1", rho0=1000.0, values=values)
    f = EYE.clone()
    f[0, 1] = 0.02
    F, h = material.project(f[None], f[None], 0.0)
    start = material.kirchhoff(F, h=h) - material.kirchhoff(F)
    for dt, steps in ((0.2, 1), (0.02, 10)):
        held, g = F, h
        for _ in range(steps):
            held, g = material.project(held, EYE[None], dt, h=g)
        ratio = (material.kirchhoff(held, h=g) - material.kirchhoff(held))[0, 0, 1] / start[0, 0, 1]
        assert float(ratio) == pytest.approx(math.exp(-0.2 / T), rel=1e-12)

    # Steady shear: viscosity G T, with substeps of half a relaxation time.
    def steady(rate: float, steps: int) -> float:
        dt = 10 * T / steps
        f[0, 1] = rate * dt
        F, h = EYE[None], material.rest_history(1)
        for _ in range(steps):
            F, h = material.project(f @ F, f[None], dt, h=h)
        return float((material.kirchhoff(F, h=h) - material.kirchhoff(F))[0, 0, 1]) / (G * T * rate)

    assert steady(0.01, 20) == pytest.approx(1.0, abs=1e-4)
    # Second order in the substep where axes turn.
    fine = steady(5.0, 320)
    errors = [abs(steady(5.0, steps) - fine) for steps in (20, 40)]
    assert errors[1] < 0.01 and errors[1] < errors[0] / 3.0


def test_maxwell_stretches_exactly_in_one_substep():
    """A constant rate of stretch along fixed axes: h = d (1 - exp(-t/T)) T, whatever the substep."""
    G, T, rate, time = 3e4, 0.1, 2.0, 0.4
    values = {"mu": 1e4, "lam": 2e4, "branch_modulus_1": G, "relaxation_time_1": T}
    material = Material("neo_hookean", None, "maxwell_1", rho0=1000.0, values=values)
    D = rate * torch.diag(torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64))
    for steps in (1, 3):
        f = torch.linalg.matrix_exp(D * time / steps)[None]
        F, h = EYE[None], material.rest_history(1)
        for _ in range(steps):
            F, h = material.project(f @ F, f, time / steps, h=h)
        over = (material.kirchhoff(F, h=h) - material.kirchhoff(F))[0, 0, 0]
        assert float(over) == pytest.approx(2 * G * rate * T * (1 - math.exp(-time / T)), rel=1e-12)


def test_tait_at_and_near_exponent_one():
    """psi = K (J - 1 - ln J) at exponent 1, and no digit is lost beside it."""
    n = 41
    s = torch.linspace(0.6, 1.6, n, dtype=torch.float64)
    F = s[:, None, None] ** (1 / 3) * EYE
    K = 1e5
    limit = K * (s - 1 - torch.log(s))
    for exponent in (1.0, 1.0 + 1e-12, 1.0 + 1e-8, 1.0 + 1e-4, 1.01, 2.0, 7.0):
        water = Material("fluid_tait", rho0=1000.0, values={"bulk_modulus": K, "exponent": exponent})
        G = F.clone().requires_grad_()
        psi = water.energy(G)
        (slope,) = torch.autograd.grad(psi.sum(), G)
        tau = water.kirchhoff(F).detach()
        assert float((slope @ F.mT - tau).abs().max()) < 1e-12 * K, exponent
        assert float((psi.detach() - limit).abs().max()) <= 0.2 * (exponent - 1.0) * K + 1e-10 * K
        for precision in (F32, F64):
            points = Points(water, precision)
            assert float((points.energy(F) - psi.detach()).abs().max()) < (1e-12 if precision is F64 else 1e-6) * K
            adjoint = points.stress(F, cotangent=EYE.expand(n, 3, 3).contiguous())
            assert all(bool(torch.isfinite(a).all()) for a in adjoint.values())
    # The slope by the exponent is continuous there: K (ln J)^2/2 - K (J - 1 - ln J) at 1.
    energy = water.laws.torch_energy()
    assert energy is not None
    for exponent in (1.0, 1.0 + 1e-9):
        theta = torch.tensor([K, exponent], dtype=torch.float64).expand(n, -1)
        slope = torch.vmap(torch.func.grad(energy, argnums=2))(F, theta, theta)[:, 1]
        want = -limit + K / 2 * torch.log(s) ** 2
        assert float((slope - want).abs().max()) < 1e-6 * K


# ---- materials and parameters


def test_elastic_constants_in_every_pair_mean_the_same_material():
    mu, lam = lame(1e5, 0.3)
    bulk = lam + 2 * mu / 3
    known = {"E": 1e5, "nu": 0.3, "mu": mu, "lam": lam, "bulk_modulus": bulk}
    pairs = ["E nu", "mu nu", "mu lam", "mu bulk_modulus", "E bulk_modulus", "E mu", "bulk_modulus nu", "lam nu"]
    for pair in pairs:
        material = Material("neo_hookean", rho0=1.0, values={n: known[n] for n in pair.split()})
        assert torch.allclose(material.theta(), torch.tensor([[mu, lam]], dtype=torch.float64), rtol=1e-12), pair
    gent = Material("gent", rho0=1.0, values={"mu": mu, "nu": 0.3, "locking": 50.0})
    assert float(gent.theta()[0, 2]) == pytest.approx(bulk)
    yeoh = Material("yeoh", rho0=1.0, values={"c1": mu / 2, "c2": 0.0, "c3": 0.0, "nu": 0.3})
    assert float(yeoh.theta()[0, 3]) == pytest.approx(bulk)


def test_parameters_are_frozen_until_freed_and_differentiable():
    material = Material("neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
    assert not material.theta().requires_grad
    material.free("E")
    (gradient,) = torch.autograd.grad(material.theta()[0, 0], material.raw["E"])
    assert float(gradient) == pytest.approx(1e5 / 2.6)  # d mu/d ln E = mu
    material.freeze()
    assert not material.theta().requires_grad
    material.set(E=2e5)
    assert float(material.values()["E"]) == pytest.approx(2e5)
    field = Material("neo_hookean", rho0=1000.0, values={"E": torch.linspace(1e4, 1e5, 7), "nu": 0.3})
    assert field.theta().shape == (7, 2)
    copy = Material("neo_hookean", rho0=1000.0, values={"E": torch.ones(7), "nu": 0.1})
    copy.load_state_dict(field.state_dict())
    assert torch.equal(copy.theta(), field.theta())


def test_values_are_checked_together_and_left_alone_if_refused():
    material = Material("neo_hookean", rho0=1000.0, values={"E": 1e5, "bulk_modulus": 1e5})
    before = material.theta()
    with pytest.raises(InputError, match=r"E, bulk_modulus give a shear modulus of -.*E below 3 mu and 9 bulk_modulus"):
        material.set(bulk_modulus=1e4)
    with pytest.raises(InputError, match="shear modulus"):
        material.set(E=1e6, bulk_modulus=1e5)
    assert torch.equal(material.theta(), before)
    material.set(E=1e6, bulk_modulus=1e6)  # each alone would be refused, or mean another material
    assert float(material.values()["E"]) == pytest.approx(1e6)
    given = Material("neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
    with pytest.raises(InputError, match=r"given by E and nu, not by mu.*make a new Material"):
        given.set(mu=1e4, lam=2e4)
    with pytest.raises(InputError, match="given by E and nu, not by bulk_modulus"):
        given.set(E=2e5, bulk_modulus=1e5)
    assert float(given.values()["E"]) == pytest.approx(1e5)
    with pytest.raises(InputError, match=r"values per particle.*E has 3, nu has 2"):
        given.set(E=torch.ones(3), nu=torch.tensor([0.1, 0.2]))


def test_a_value_at_its_bound_stays_fixed():
    material = example_material("von_mises")
    material.set(hardening=0.0)
    assert "hardening" not in material.raw and float(material.theta()[0, 3]) == 0.0
    with pytest.raises(InputError, match="at its bound"):
        material.free("hardening")
    material.set(hardening=10.0)
    material.free("hardening")
    assert float(material.theta().detach()[0, 3]) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elastic": "neo_hokean", "values": {}}, "neo_hookean"),
        ({"elastic": "newtonian", "values": {}}, "not an elastic law"),
        ({"elastic": "neo_hookean", "values": {"E": 1e5}}, "two elastic constants"),
        ({"elastic": "neo_hookean", "values": {"E": 1e5, "nu": 0.3, "mu": 1.0}}, "two elastic constants"),
        ({"elastic": "neo_hookean", "values": {"E": 1e5, "nu": 0.6}}, "nu = 0.6"),
        ({"elastic": "neo_hookean", "values": {"E": 1e5, "nu": 0.5}}, "bulk modulus of inf"),
        ({"elastic": "neo_hookean", "values": {"E": 1e5, "mu": 1e4}}, "bulk modulus of -"),
        ({"elastic": "neo_hookean", "values": {"E": float("nan"), "nu": 0.3}}, "finite"),
        ({"elastic": "neo_hookean", "values": {"E": 1e5, "nu": 0.3, "viscosty": 1.0}}, "no parameter 'viscosty'"),
        ({"elastic": "fluid_quadratic", "values": {}}, "missing bulk_modulus"),
        ({"elastic": "fluid_tait", "values": {"nu": 0.3}}, "no parameter 'nu'"),
        ({"elastic": "stvk", "inelastic": "fluid", "values": {"E": 1e5, "nu": 0.3}, "rho0": -1.0}, "density"),
        ({"elastic": "mooney_rivlin", "inelastic": "von_mises", "values": {}}, "hencky"),
        (
            {"elastic": "fluid_tait", "viscous": "herschel_bulkley", "inelastic": "von_mises", "values": {}},
            "yield_stress",
        ),
    ],
)
def test_wrong_materials_say_what_to_do(arguments, message):
    with pytest.raises(InputError, match=message):
        Material(**{"rho0": 1000.0} | arguments)


def test_registry_refuses_a_second_law_of_one_name():
    with pytest.raises(InputError, match="registered already"):
        register(LAWS["hencky"])
    assert get_law(LAWS["hencky"], ElasticLaw) is LAWS["hencky"]


# ---- stability


def test_wave_modulus_at_rest_and_compressed():
    material = Material("neo_hookean", rho0=1000.0, values={"E": 1e5, "nu": 0.3})
    mu, lam = lame(1e5, 0.3)
    rest = wave_modulus(material, EYE[None])
    assert float(rest) == pytest.approx(lam + 2 * mu, rel=1e-9)
    s = 0.6  # d tau_11/d ln s along a pressed bar, less tau_11: mu (s^2 + 1) + lam (1 - ln s)
    pressed = torch.diag(torch.tensor([s, 1.0, 1.0], dtype=torch.float64))[None]
    along = mu * (s**2 + 1) + lam * (1 - math.log(s))
    assert float(wave_modulus(material, pressed)) >= along * (1 - 1e-9)
    branch = example_material("maxwell_1")
    theta = dict(zip(branch.names, branch.theta()[0].tolist(), strict=True))
    want = theta["lam"] + 2 * theta["mu"] + 4 / 3 * theta["branch_modulus_1"]
    assert float(wave_modulus(branch, EYE[None])) == pytest.approx(want, rel=1e-9)
    want = theta["lam"] + 2 * theta["mu"]
    assert float(wave_modulus(branch, EYE[None], relaxed=True)) == pytest.approx(want, rel=1e-9)


def test_stable_substep_follows_stiffness_and_viscosity():
    values = {"bulk_modulus": 1e5, "viscosity": 3.0, "bulk_viscosity": 1.0}
    water = Material("fluid_quadratic", "newtonian", "fluid", rho0=1000.0, values=values)
    assert float(viscous_modulus(water)) == pytest.approx(4.0 / 3.0 * 3.0 + 1.0)
    F = EYE.expand(100, -1, -1)
    slow = stable_substep(water, F, 0.1, dim=2, safety=1.0)
    assert slow == pytest.approx(0.1 / math.sqrt(2 * 100.0), rel=0.01)
    water.set(viscosity=3e5)
    stiff = stable_substep(water, F, 0.1, dim=2, safety=1.0)
    assert stiff == pytest.approx(2 * 1000.0 * 0.01 / (4 * 2 * 4e5), rel=0.01)
