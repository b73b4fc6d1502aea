"""Laws that work on many particles at once: the values and gradients of the scalar kernels, for every law."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import warp as wp
from test_laws_readers import EYE, MATERIALS, relative, states
from wide_runs import padded, run

from physim.laws import Material
from physim.laws.compose import Composition
from physim.laws.core import ElasticLaw
from physim.laws.neural.cann import cann
from physim.laws.neural.energy import neural_energy
from physim.laws.parameters import LAME, Param
from physim.laws.points import Points
from physim.numeric import F32, F64, mat33, numeric, params, real
from physim.solvers.mpm.wide_laws import traceable, untouched, wide_kernel
from physim.tensor import identity, left_strain

torch.set_num_threads(1)
DT = 1e-3
wp.init()


def strained(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """F and C of 37 particles: at rest, almost, at repeated stretches, at large strains."""
    F, _, f = states(seed)
    g = torch.Generator().manual_seed(seed)
    large = torch.linalg.matrix_exp(0.5 * torch.randn(13, 3, 3, dtype=torch.float64, generator=g))
    F = torch.cat([F, large]).float().double()
    return F, torch.cat([f, f[:13]]).sub(EYE) / DT


def past(material: Material, n: int, g: torch.Generator) -> torch.Tensor:
    h = 0.02 * torch.rand(n, material.history_size, dtype=torch.float64, generator=g)
    branches = material.inelastic and any("strain_1_xx" in c for c in material.inelastic.history)
    return padded(h - 0.01 if branches else h)


def check(material: Material, F: torch.Tensor, C: torch.Tensor, precision, *, each: bool, smooth: slice) -> None:
    """All four kernels against the scalar kernels, whose values and adjoints are checked elsewhere."""
    points, n = Points(material, precision), len(F)
    g = torch.Generator().manual_seed(3)
    h, f = past(material, n, g), EYE + DT * C
    theta = material.theta().detach()
    rows = theta.expand(n, -1) if each else theta
    G = torch.randn(n, 3, 3, dtype=torch.float64, generator=g)
    bar, gradient_bar = (1e-14, 1e-10) if precision is F64 else (2e-6, 2e-4)

    def same(name: str, found: torch.Tensor, wanted: torch.Tensor, limit: float) -> None:
        assert torch.equal(found.isnan(), wanted.isnan()), name
        assert relative(found.nan_to_num(), wanted.nan_to_num()) < limit, name

    def same_theta(found: torch.Tensor, wanted: torch.Tensor) -> None:
        for j in range(wanted.shape[1]):
            scale = float(wanted[:, j].abs().sum()) or 1.0
            total = wanted[:, j] if each else wanted[:, j].sum(dim=0, keepdim=True)
            assert float((found[:, j] - total).abs().max()) < gradient_bar * scale, f"theta {j}"

    options = {"precision": precision, "each": each}
    given = {"F": F, "C": C, "h": h, "theta": rows}
    same("tau", run("stress", material, **options, **given)["tau"], points.stress(F, C, h), bar)
    wanted = points.stress(F, C, h, cotangent=G)
    found = run("stress_adjoint", material, **options, **given, adj_tau=G)
    for mine, theirs in (("F", "F"), ("C", "L"), ("h", "h")):
        same(mine, found[f"adj_{mine}"], wanted[theirs], gradient_bar)
    same_theta(found["adj_theta"], wanted["theta"])
    if material.inelastic is None:
        return
    given = {"F": F, "C_out": C, "h": h, "theta": rows, "dt": DT}
    F_trial = (f @ F).to(precision.torch).double()
    found, (A, b) = run("project", material, **options, **given), points.project(F_trial, f, DT, h)
    same("F", found["F_out"], A, bar)
    if material.history_size:
        same("h", found["h_out"], b, 50 * bar)
    H = torch.randn(n, points.history_size, dtype=torch.float64, generator=g) * bool(material.history_size)
    wanted = points.project(F_trial, f, DT, h, cotangent=(G, H))
    found = run("project_adjoint", material, **options, **given, adj_F_out=G, adj_h_out=H)
    same("F", found["adj_F"][smooth], (f.mT @ wanted["F"])[smooth], gradient_bar)
    same("C", found["adj_C_out"][smooth], DT * (wanted["F"] @ F.mT + wanted["f"])[smooth], gradient_bar)
    if material.history_size:
        same("h", found["adj_h"][smooth], wanted["h"][smooth], gradient_bar)
    if each:
        same_theta(found["adj_theta"][smooth], wanted["theta"][smooth])


@pytest.mark.parametrize("name", MATERIALS)
def test_a_law_works_on_many_particles_as_on_one(name: str) -> None:
    F, C = strained(1)
    # Gent's chains end at a finite stretch, beyond which its stress is no number: that is compared too.
    check(MATERIALS[name], F, C, F64, each=False, smooth=slice(2, None))


SOME = ["fixed_corotated", "fluid", "von_mises", "drucker_prager_2d_loose", "maxwell_1", "herschel_bulkley"]


@pytest.mark.parametrize("name", SOME)
def test_single_precision(name: str) -> None:
    F, C = strained(2)
    check(MATERIALS[name], F[:24], C[:24], F32, each=False, smooth=slice(2, None))


@pytest.mark.parametrize("name", ["fixed_corotated", "fluid", "von_mises"])
def test_parameters_of_each_particle(name: str) -> None:
    F, C = strained(3)
    check(MATERIALS[name], F, C, F64, each=True, smooth=slice(2, None))


def test_values_follow_the_parameters_of_each_particle() -> None:
    material, (F, C) = MATERIALS["fixed_corotated"], strained(4)
    theta = material.theta().detach() * (1.0 + torch.arange(len(F), dtype=torch.float64))[:, None]
    found = run("stress", material, each=True, F=F, C=C, h=padded(C[:, 0, :0]), theta=theta)["tau"]
    assert relative(found, material.kirchhoff(F, theta=theta).detach()) < 1e-14


@pytest.mark.parametrize("name", MATERIALS)
def test_the_independent_reader_agrees(name: str) -> None:
    material, (F, L, _) = MATERIALS[name], states(5)
    h = past(material, len(F), torch.Generator().manual_seed(1))
    found = run("stress", material, F=F, C=L, h=h, theta=material.theta())["tau"]
    assert relative(found, material.kirchhoff(F, L, h[:, : material.history_size]).detach()) < 1e-13


@pytest.mark.parametrize("name", ["fixed_corotated", "neo_hookean", "hencky", "mooney_rivlin", "fluid_tait", "fluid"])
def test_inverted_and_broken_particles(name: str) -> None:
    """Where a law has no value, many particles have none either, and their neighbours keep theirs."""
    F, C = strained(6)
    turned = F.clone()
    turned[3] = EYE * torch.tensor([1.0, -0.7, 1.3], dtype=torch.float64)
    turned[5] = -F[5]
    turned[7, 1, 2] = float("nan")
    turned[20] = F[20] * torch.tensor([[-1.0], [1.0], [1.0]], dtype=torch.float64)
    material, points = MATERIALS[name], Points(MATERIALS[name], F64)
    h = past(material, len(F), torch.Generator().manual_seed(1))
    G = torch.randn(F.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    given = {"F": turned, "C": C, "h": h, "theta": material.theta()}
    wanted = points.stress(turned, C, h), points.stress(turned, C, h, cotangent=G)["F"]
    tau = run("stress", material, **given)["tau"]
    adj_F = run("stress_adjoint", material, **given, adj_tau=G)["adj_F"]
    healthy = run("stress", material, **(given | {"F": F}))["tau"]
    for found, want in zip((tau, adj_F), wanted, strict=True):
        broken = [t.reshape(len(F), 9).isnan().any(dim=1) for t in (found, want)]
        assert torch.equal(*broken)
        assert bool(broken[0][7])
        assert relative(found[~broken[0]], want[~broken[0]]) < 1e-12
    untouched = torch.tensor([i for i in range(len(F)) if i not in (3, 5, 7, 20)])
    assert torch.equal(tau[untouched], healthy[untouched])


@pytest.mark.parametrize("precision", [F32, F64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", ["fixed_corotated", "drucker_prager_loose"])
def test_neighbours_and_numbers_make_no_difference(name: str, precision) -> None:
    """Bit for bit, though one vector may hold particles on both sides of every branch."""
    material, (F, C) = MATERIALS[name], strained(7)
    F[::3] = EYE + 0.01 * (F[::3] - EYE)
    n, g = len(F), torch.Generator().manual_seed(4)
    h = past(material, n, g)
    G = torch.randn(n, 3, 3, dtype=torch.float64, generator=g)
    H = torch.randn(h.shape, dtype=torch.float64, generator=g)
    stages = {"stress": {"C": C}, "stress_adjoint": {"C": C, "adj_tau": G}}
    if material.inelastic:
        flow = {"C_out": C, "dt": DT}
        stages |= {"project": flow, "project_adjoint": flow | {"adj_F_out": G, "adj_h_out": H}}
    for stage, extra in stages.items():
        given = {"F": F, "h": h, "theta": material.theta()} | extra
        outs = {"stress": ["tau"], "project": ["F_out", "h_out"]}.get(stage, ["adj_F", "adj_h"])
        whole = run(stage, material, precision=precision, **given)
        for first, count in ((0, 1), (0, 16), (5, 17), (3, 33), (36, 1), (10, 0)):
            part = run(stage, material, precision=precision, first=first, count=count, **given)
            for name_of in outs:
                stop = first + count
                assert torch.equal(part[name_of][first:stop], whole[name_of][first:stop])
                assert not part[name_of][:first].any()
                assert not part[name_of][stop:].any()


@pytest.mark.parametrize("name", ["fixed_corotated", "drucker_prager", "neural_energy"])
def test_adjoints_add(name: str) -> None:
    material, (F, C) = MATERIALS[name], strained(8)
    h = padded(C[:, 0, :0])
    given = {"F": F, "C": C, "h": h, "theta": material.theta(), "adj_tau": torch.ones_like(F)}
    once = run("stress_adjoint", material, **given)
    start = {n: torch.randn(once[n].shape, dtype=torch.float64) for n in ("adj_F", "adj_C", "adj_theta")}
    again = run("stress_adjoint", material, **given, **start)
    for name_of, before in start.items():
        scale = float((once[name_of] + before).abs().max())
        assert float((again[name_of] - before - once[name_of]).abs().max()) < 1e-13 * scale


@pytest.mark.parametrize("name", ["fixed_corotated", "ogden_2", "von_mises", "maxwell_1"])
def test_central_differences(name: str) -> None:
    material = MATERIALS[name]
    F, C = (t[8:24] for t in strained(9))
    g = torch.Generator().manual_seed(5)
    h, theta = past(material, len(F), g), material.theta().detach()
    G = torch.randn(F.shape, dtype=torch.float64, generator=g)
    H = torch.randn(h.shape, dtype=torch.float64, generator=g)
    ways = {n: torch.randn(t.shape, dtype=torch.float64, generator=g) for n, t in (("F", F), ("C", C), ("h", h))}
    ways["theta"] = theta * torch.randn(theta.shape, dtype=torch.float64, generator=g)

    def stress(s: float) -> float:
        moved = {n: v + s * ways[n] for n, v in (("F", F), ("C", C), ("h", h), ("theta", theta))}
        return float((run("stress", material, **moved)["tau"] * G).sum())

    def project(s: float) -> float:
        moved = {n: v + s * ways[n[0] if n != "theta" else n] for n, v in
                 (("F", F), ("C_out", C), ("h", h), ("theta", theta))}  # fmt: skip
        found = run("project", material, dt=DT, **moved)
        return float((found["F_out"] * G).sum() + (found["h_out"] * H).sum())

    cases = [(stress, run("stress_adjoint", material, F=F, C=C, h=h, theta=theta, adj_tau=G), "adj_C")]
    if material.inelastic:
        given = {"F": F, "C_out": C, "h": h, "theta": theta, "dt": DT, "adj_F_out": G, "adj_h_out": H}
        cases.append((project, run("project_adjoint", material, **given), "adj_C_out"))
    for value, pulled, of_C in cases:
        pairs = (("adj_F", "F"), (of_C, "C"), ("adj_h", "h"), ("adj_theta", "theta"))
        slopes = [float((pulled[n] * ways[w]).sum()) for n, w in pairs]

        def quotient(s: float, value=value) -> float:
            return (value(s) - value(-s)) / (2.0 * s)

        s = 2e-4
        extrapolated = (4.0 * quotient(s) - quotient(2.0 * s)) / 3.0
        assert abs(extrapolated - sum(slopes)) < 1e-9 * sum(abs(x) for x in slopes)


UNITS = 64


@numeric
def softplus_kirchhoff(F: mat33, theta: params) -> mat33:
    """A stress that a network of softplus units scales; weights are columns of theta."""
    B = left_strain(F)
    a = wp.trace(B)
    b = wp.ddot(B, B)
    total = real(0.0) * a
    for k in range(UNITS):
        x = theta[2 + 3 * k] * a + theta[3 + 3 * k] * b
        total = total + theta[4 + 3 * k] * wp.log(real(1.0) + wp.exp(x))
    return theta[0] * B + (theta[1] + total) * wp.trace(B) * identity()


def test_a_network_written_as_a_loop() -> None:
    """Its gradient by the reverse of the trace, against torch's; no adjoint is written."""
    n, width = 45, 2 + 3 * UNITS
    g = torch.Generator().manual_seed(6)
    theta = torch.randn(1, width, dtype=torch.float64, generator=g)
    F = EYE + 0.2 * torch.randn(n, 3, 3, dtype=torch.float64, generator=g)
    G = torch.randn(n, 3, 3, dtype=torch.float64, generator=g)
    columns = tuple(Param(f"w_{i}", "-") for i in range(width))
    law = ElasticLaw("softplus_net", columns, softplus_kirchhoff, None, lambda t: (t[..., 0], t[..., 0]), "", "")
    # As much of a material as kernels ask for.
    held: Any = SimpleNamespace(laws=Composition(law), history_size=0)
    F_, theta_ = F.clone().requires_grad_(), theta.clone().requires_grad_()
    tau = torch.vmap(softplus_kirchhoff.torch())(F_, theta_.expand(n, -1))
    wanted = torch.autograd.grad((tau * G).sum(), (F_, theta_))
    given = {"F": F, "C": torch.zeros_like(F), "h": torch.zeros(n, 1, dtype=torch.float64), "theta": theta}
    found = run("stress_adjoint", held, **given, adj_tau=G)
    assert relative(run("stress", held, **given)["tau"], tau.detach()) < 1e-13
    assert relative(found["adj_F"], wanted[0]) < 1e-13
    assert relative(found["adj_theta"], wanted[1]) < 1e-13


@pytest.mark.parametrize("encoder", ["hencky", "invariants", "fibre", "stretches"])
def test_a_learned_energy(encoder: str) -> None:
    moduli = {"nu": 0.3} if encoder == "hencky" else {"bulk_modulus": 1e5}
    law = cann(encoder) if encoder == "stretches" else neural_energy(encoder, 8)
    material = Material(law, rho0=1000.0, values={"mu": 4e4} | moduli)
    F, C = strained(10)
    check(material, F[:24], C[:24], F64, each=False, smooth=slice(2, None))


def test_what_a_law_does_not_need_is_not_touched() -> None:
    def of(name: str, stage: str) -> set[str]:
        arrays = {"F", "C", "C_out", "h", "theta", "adj_F", "adj_C", "adj_h", "h_out", "adj_theta"}
        return arrays & untouched(wide_kernel(MATERIALS[name].laws, F64, 1, stage, False))

    assert of("fixed_corotated", "stress") == {"C", "h"}
    assert of("fixed_corotated", "stress_adjoint") == {"C", "h", "adj_C", "adj_h"}
    assert of("newtonian", "stress") == {"h"}
    assert of("fluid", "project") == {"h", "h_out", "theta"}
    assert of("von_mises", "project") == set()


@numeric
def angle_kirchhoff(F: mat33, theta: params) -> mat33:
    """A stress with a function that is not in the vocabulary."""
    return theta[0] * wp.atan2(F[1, 0], F[0, 0]) * identity()


def test_a_law_that_cannot_be_traced_keeps_its_scalar_kernels() -> None:
    law = ElasticLaw("angle", LAME, angle_kirchhoff, None, lambda t: (t[..., 0], t[..., 1]), "", "")
    assert not traceable(Composition(law), F64)
    assert all(traceable(m.laws, p) for m in MATERIALS.values() for p in (F32, F64))
