"""Sand that dilates: closed forms of the return map and of simple shear, its volume, its ends, its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from physim.errors import InputError
from physim.laws import Material
from physim.laws.points import Points
from physim.laws.verify import verify
from physim.numeric import F32, F64
from physim.sim.model import Grid, Model, Wall, WallKind
from physim.sim.rollout import rollout
from physim.solvers.mpm.solver import SolverMPM

torch.set_num_threads(1)
EYE = torch.eye(3, dtype=torch.float64)
CONES = ["drucker_prager", "drucker_prager_2d", "drucker_prager_loose", "drucker_prager_2d_loose"]


def sand(law: str, phi: float, psi: float = 0.0, cohesion: float = 0.0, E: float = 1e6) -> Material:
    """Angles in degrees."""
    angles = {"friction_angle": math.radians(phi), "dilation_angle": math.radians(psi)}
    values = {"E": E, "nu": 0.3, "cohesion": cohesion} | angles
    return Material("hencky", inelastic=law, rho0=1500.0, values=values)


def diagonal(*strains: float) -> torch.Tensor:
    """Deformation of principal Hencky strains, (1, 3, 3)."""
    return torch.diag(torch.tensor(strains, dtype=torch.float64).exp())[None]


def projected(material: Material, F: torch.Tensor, f: torch.Tensor, dt: float, **past) -> tuple:
    with torch.no_grad():
        return material.project(F, f, dt, **past)


def principal(F: torch.Tensor) -> np.ndarray:
    return torch.diagonal(F[0]).log().numpy()


def slope(law: str, angle: float) -> float:
    """Change of the norm of the stress deviator per trace of the stress, or of plastic volume, by the textbook."""
    s = math.sin(math.radians(angle))
    return s / math.sqrt(2) if "2d" in law else math.sqrt(2 / 3) * 2 * s / (3 - s)


@pytest.mark.parametrize("psi", [0.0, 12.0, 30.0])
@pytest.mark.parametrize("law", CONES)
def test_return_lies_on_the_cone_and_flows_at_the_angle_of_dilation(law, psi):
    material = sand(law, 30.0, psi, cohesion=500.0)
    flat = "2d" in law
    eps = np.array([0.015, -0.03, 0.0 if flat else -0.005])
    F, h = projected(material, diagonal(*eps), EYE[None], 1e-3)
    axes, d = (slice(0, 2), 2) if flat else (slice(0, 3), 3)
    tau = torch.diagonal(material.kirchhoff(F).detach()[0]).numpy()[axes]
    size = np.linalg.norm(tau - tau.mean())
    strength = slope(law, 30.0) / math.tan(math.radians(30.0)) * 500.0 * d
    assert size == pytest.approx(strength - slope(law, 30.0) * tau.sum(), rel=1e-10)
    plastic = (eps - principal(F))[axes]
    deviator = plastic - plastic.mean()
    assert plastic.sum() == pytest.approx(d * slope(law, psi) * np.linalg.norm(deviator), rel=1e-9, abs=1e-14)
    assert deviator @ (tau - tau.mean()) == pytest.approx(np.linalg.norm(deviator) * size, rel=1e-10)
    assert not h.numel() or float(h.abs().max()) < 1e-14  # what shear opens is no gap between grains


@pytest.mark.parametrize("psi", [0.0, 12.0, 30.0])
@pytest.mark.parametrize("law", CONES)
def test_the_tip_takes_what_lies_beyond_the_flow_lines(law, psi):
    material = sand(law, 30.0, psi, cohesion=500.0)
    flat, d = "2d" in law, 2 if "2d" in law else 3
    mu, lam = material.theta().detach()[0, :2].tolist()
    stiffness = 2 * mu + d * lam
    tip = 500.0 / math.tan(math.radians(30.0)) * d / stiffness
    n = np.array([1.0, -1.0, 0.0]) / math.sqrt(2)
    mean = np.array([1.0, 1.0, 0.0 if flat else 1.0])
    size = 2e-3
    edge = tip + d * slope(law, psi) * size  # the flow line through the tip
    for past in (-1e-6, 1e-6):
        eps = size * n + (edge + past) / d * mean
        F, h = projected(material, diagonal(*eps), EYE[None], 1e-3)
        new = principal(F)
        assert np.abs(new - tip / d * mean).max() < 3e-6
        if past > 0:
            assert np.abs(new - tip / d * mean).max() < 3e-14
            assert not h.numel() or float(h[0, 0]) == pytest.approx(past, rel=1e-6)


def sheared(law: str, pairs: list[tuple[float, float]]) -> np.ndarray:
    """Shear over normal stress at failure in simple shear at a constant normal stress, one per (phi, psi) [deg]."""
    angles = torch.tensor(pairs, dtype=torch.float64).deg2rad()
    values = {"E": 1e6, "nu": 0.3, "friction_angle": angles[:, 0], "dilation_angle": angles[:, 1]}
    material = Material("hencky", inelastic=law, rho0=1500.0, values=values)
    points, n, pressure = Points(material, F64), len(pairs), 10.0
    F = EYE.expand(n, 3, 3).clone()
    h = material.rest_history(n)

    def after(F: torch.Tensor, h: torch.Tensor, rise: torch.Tensor, shear: float) -> tuple:
        f = EYE.expand(n, 3, 3).clone()
        f[:, 1, 1] += rise
        f[:, 0, 1] = shear
        F, h = points.project(f @ F, f, 1e-3, h)
        h = h[:, : material.history_size]
        return F, h, points.stress(F, None, h)

    for step in range(150):
        shear = 0.0 if step == 0 else 8e-6
        a, b = torch.zeros(n, dtype=torch.float64), torch.full((n,), -1e-7 if step else -1e-5, dtype=torch.float64)
        at_a = after(F, h, a, shear)[2][:, 1, 1] + pressure
        for _secant in range(6):
            at_b = after(F, h, b, shear)[2][:, 1, 1] + pressure
            change = at_b - at_a
            move = torch.where(change.abs() > 1e-9, at_b * (b - a) / torch.where(change == 0, 1.0, change), 0.0)
            a, b, at_a = b, b - move, at_b
        F, h, tau = after(F, h, b, shear)
    assert float((tau[:, 1, 1] + pressure).abs().max()) < 1e-5 * pressure
    return (tau[:, 0, 1] / pressure).numpy()


def test_plane_strain_shears_at_the_angle_of_davis():
    pairs = [(30.0, 0.0), (30.0, 10.0), (30.0, 30.0), (40.0, 0.0), (40.0, 20.0), (40.0, 40.0)]
    phi, psi = np.radians(pairs).T
    # Davis 1968: tan = sin phi cos psi/(1 - sin phi sin psi), which is tan phi for psi = phi.
    want = np.sin(phi) * np.cos(psi) / (1 - np.sin(phi) * np.sin(psi))
    assert want[2] == pytest.approx(math.tan(phi[2])) and want[0] == pytest.approx(0.5)
    assert sheared("drucker_prager_2d", pairs) == pytest.approx(want, rel=2e-4)


def test_cone_in_three_dimensions_shears_in_closed_form():
    pairs = [(30.0, 0.0), (30.0, 15.0), (25.0, 25.0)]
    a, b = (np.array([slope("3d", p[k]) for p in pairs]) for k in (0, 1))
    # Rates of strain with D_xx = D_zz = 0 have the direction n_xx = n_zz = -b, n_yy = 2 b, 2 n_xy^2 = 1 - 6 b^2.
    want = 3 * a * np.sqrt((1 - 6 * b**2) / 2) / (1 - 6 * a * b)
    assert sheared("drucker_prager", pairs) == pytest.approx(want, rel=2e-4)


@pytest.mark.parametrize("law", CONES)
@pytest.mark.parametrize(("psi", "cohesion"), [(0.0, 0.0), (30.0, 0.0), (30.0, 300.0)])
def test_every_angle_of_dilation_has_every_property(law, psi, cohesion):
    checks = verify(sand(law, 30.0, psi, cohesion), F64, samples=2000)
    assert not [f"{c.property}: {c.value:.3g} > {c.bar:g}" for c in checks if not c.passed]
    angle = next(c for c in checks if c.property == "angle of dilation [deg]")
    assert f"{psi:.3f} deg" in angle.note


def test_loose_sand_keeps_the_volume_that_shear_made_and_loses_the_gap():
    """Dilated sand between plates presses; sand that was pulled apart first must close its gap before it does."""
    f = torch.linalg.matrix_exp(0.002 * torch.diag(torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)))[None]
    pressures = {}
    for law in ("drucker_prager_2d", "drucker_prager_2d_loose"):
        for gap in (0.0, 0.05):
            material = sand(law, 30.0, 10.0)
            open_ = diagonal(gap / 2, gap / 2, 0.0)
            F, h = projected(material, open_, open_, 1e-3)
            for _step in range(10):  # it makes 0.0096 of volume, less than the gap
                F, h = projected(material, f @ F, f, 1e-3, h=h)
            tau = torch.diagonal(material.kirchhoff(F).detach()[0])
            pressures[law, gap] = -float(tau[0] + tau[1]) / 2
    mu, lam = sand("drucker_prager", 30.0).theta().detach()[0, :2].tolist()
    assert pressures["drucker_prager_2d", 0.0] > 0.1 * (mu + lam) * 0.02
    for law, gap in (("drucker_prager_2d_loose", 0.0), ("drucker_prager_2d", 0.05)):
        assert pressures[law, gap] == pytest.approx(pressures["drucker_prager_2d", 0.0], rel=1e-6)
    assert abs(pressures["drucker_prager_2d_loose", 0.05]) < 1e-6


def test_dilation_beyond_friction_is_refused():
    with pytest.raises(InputError, match=r"dilation_angle = 35 deg.*friction_angle = 30 deg"):
        sand("drucker_prager_2d", 30.0, 35.0)
    material = sand("drucker_prager", 30.0, 20.0)
    with pytest.raises(InputError, match="above friction_angle = 15 deg"):
        material.set(friction_angle=math.radians(15.0))
    assert float(material.values()["friction_angle"]) == pytest.approx(math.radians(30.0))
    material.set(friction_angle=math.radians(15.0), dilation_angle=math.radians(15.0))
    field = torch.tensor([0.1, 0.6], dtype=torch.float64)
    with pytest.raises(InputError, match="dilation_angle"):
        Material(
            "hencky",
            inelastic="drucker_prager",
            rho0=1.0,
            values={"E": 1e6, "nu": 0.3, "friction_angle": 0.5, "dilation_angle": field},
        )


@pytest.mark.parametrize("precision", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("law", CONES)
def test_without_friction_the_strength_is_the_cohesion_alone(law, precision):
    material = sand(law, 0.0, cohesion=500.0)
    flat = "2d" in law
    for mean in (-0.02, 0.02):  # pressed or pulled: there is no tip
        F = diagonal(mean + 0.03, mean - 0.03, 0.0 if flat else mean)
        points = Points(material, precision)
        new, h = points.project(F, F, 1e-3)
        tau = torch.diagonal(points.stress(new)[0])[: 2 if flat else 3]
        # Tresca in the plane, |tau_1 - tau_2| = 2 c; the compression corners of Mohr-Coulomb in the cone.
        want = math.sqrt(2) * 500.0 if flat else math.sqrt(2 / 3) * 2 * 500.0
        assert float((tau - tau.mean()).norm()) == pytest.approx(want, rel=1e-3 if precision is F32 else 1e-9)
        found = points.project(F, F, 1e-3, cotangent=(torch.ones(1, 3, 3, dtype=torch.float64), torch.zeros_like(h)))
        assert all(bool(torch.isfinite(g).all()) for g in found.values())
    if precision is F64:
        failed = [c for c in verify(material, F64, samples=500) if not c.passed]
        assert not failed


def test_neither_friction_nor_cohesion_is_a_body_without_strength():
    material = sand("drucker_prager", 0.0)
    F, _ = projected(material, diagonal(0.01, -0.05, 0.0), EYE[None], 1e-3)
    tau = torch.diagonal(material.kirchhoff(F).detach()[0])
    assert float((tau - tau.mean()).norm()) < 1e-6 and float(tau.sum()) < -1e3


@pytest.mark.parametrize("law", CONES)
def test_gradients_of_the_map_are_its_central_differences(law):
    flat = "2d" in law
    strains = [(0.01, -0.03, -0.01), (0.012, -0.02, -0.02), (-0.03, 0.01, 0.01), (0.02, 0.01, 0.01), (0.03, 0.0, 0.02)]
    F = torch.cat([diagonal(a, b, 0.0 if flat else c) for a, b, c in strains])
    turn = torch.tensor([[0.0, -0.4, 0.0], [0.4, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    F = torch.linalg.matrix_exp(turn) @ F
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(len(F), 3, 3, dtype=torch.float64, generator=g)
    move = torch.randn(len(F), 3, 3, dtype=torch.float64, generator=g)
    if flat:
        move[:, 2], move[:, :, 2] = 0.0, 0.0
    angles = {"friction_angle": 0.5, "dilation_angle": 0.2, "cohesion": 300.0, "E": 1e6}

    def made(**changed: float) -> Points:
        values = {"nu": 0.3} | angles | changed
        return Points(Material("hencky", inelastic=law, rho0=1.0, values=values), F64)

    def value(points: Points, F: torch.Tensor) -> torch.Tensor:
        new, h = points.project(F, F, 1e-3)
        return (new * weight).sum(dim=(1, 2)) + 0.3 * h[:, 0]

    points = made()
    n, k = len(F), points.history_size
    found = points.project(F, F, 1e-3, cotangent=(weight, torch.full((n, k), 0.3, dtype=torch.float64)))
    step = 1e-6
    want = (value(points, F + step * move) - value(points, F - step * move)) / (2 * step)
    assert (found["F"] * move).sum(dim=(1, 2)).numpy() == pytest.approx(want.numpy(), rel=1e-6, abs=1e-7)
    names = points.material.names
    for name in ("friction_angle", "dilation_angle", "cohesion"):
        size = 1e-5 * angles[name]
        up, down = (value(made(**{name: angles[name] + s * size}), F) for s in (1, -1))
        got = found["theta"][:, names.index(name)]
        scale = 1e-7 if name == "cohesion" else 1.0
        assert got.numpy() == pytest.approx(((up - down) / (2 * size)).numpy(), rel=1e-5, abs=1e-6 * scale), name


@pytest.mark.parametrize("law", ["drucker_prager_2d", "drucker_prager_2d_loose"])
def test_gradient_through_a_rollout(law):
    """Front of a sheared heap after 20 substeps by its angle of dilation."""
    grid = Grid((-0.3, -0.3, 0.0), 0.1, (17, 12, 1))
    axis = torch.arange(8, dtype=torch.float64) * 0.05 + 0.025
    x = torch.cartesian_prod(axis, axis)
    x = torch.cat([x, torch.zeros(len(x), 1, dtype=torch.float64)], dim=1)
    v = torch.stack([3.0 * x[:, 1], -2.0 * x[:, 1], 0 * x[:, 1]], dim=1)
    walls = (Wall(1, False, 0.0, WallKind.NO_SLIP),)

    def run(psi: float) -> tuple[torch.Tensor, Material]:
        material = sand(law, 30.0, psi, cohesion=20.0, E=1e5)
        material.free("dilation_angle")
        model = Model(grid, torch.full((len(x),), 0.0025, dtype=torch.float64), [material], walls=walls)
        solver = SolverMPM(model, x, v)
        end = rollout(solver, solver.initial_state(), dt=1.5e-3, steps=20, every=20).final
        return (end.x[:, :2] * x[:, :2]).sum(), material

    value, material = run(10.0)
    (got,) = torch.autograd.grad(value, material.raw["dilation_angle"])
    raw = material.raw["dilation_angle"].detach()
    angles = [float(material.table["dilation_angle"].to_value(raw + s * 1e-5).rad2deg()) for s in (1, -1)]
    up, down = (float(run(a)[0].detach()) for a in angles)
    assert abs(up - down) > 1e-9
    assert float(got) == pytest.approx((up - down) / 2e-5, rel=1e-6)
