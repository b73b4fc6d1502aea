"""Properties of viscous and inelastic laws: frame indifference, dissipation, steady viscosity, friction angle."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from physim.laws.closed_forms import STEADY_SHEAR
from physim.laws.points import Points
from physim.laws.subject import Check, Subject, relative
from physim.numeric import F64

_STEPS = 5
_STRAIN_PER_STEP = 0.03
# A trapezoid over steps of this strain leaves 1e-4 of the work undecided.
_UNDECIDED = 1e-3


def viscous_checks(subject: Subject) -> Iterator[Check]:
    """Objectivity, symmetry, dissipation and steady shear of the viscous stress."""
    points = subject.points
    F, Q = subject.deformations(), subject.rotations()
    L = subject.rounded(_rates(subject, subject.few))
    tau = _viscous(subject, F, L)
    turned = _viscous(subject, subject.rounded(Q @ F), subject.rounded(Q @ L @ Q.mT))
    scale = (points.stress(F, L).norm(dim=(1, 2)) + subject.modulus)[:, None, None]
    # Of the whole stress: the viscous part is read as a difference, so it cannot be known better.
    error = float(((turned - Q @ tau @ Q.mT) / scale).norm(dim=(1, 2)).max())
    bar = subject.bar(1e-5, 1e-12)
    yield subject.check("viscous objectivity", error, bar, "tau(QF, QLQ^T) = Q tau Q^T")
    asymmetry = float(((tau - tau.mT) / scale).abs().max())
    yield subject.check("viscous symmetry", asymmetry, 1e-6, "tau = tau^T")
    F, L = subject.deformations(subject.samples), subject.rounded(_rates(subject, subject.samples))
    tau = points.stress(F, L)
    D = 0.5 * (L + L.mT)
    power = ((tau - points.stress(F)) * D).sum(dim=(1, 2))
    allowed = 50 * subject.roundoff * (tau.norm(dim=(1, 2)) + subject.modulus) * D.norm(dim=(1, 2))
    yield _violations(subject, "viscous dissipation", power, allowed, "tau : D < 0")
    yield from _steady_shear(subject)


def _viscous(subject: Subject, F: Tensor, L: Tensor) -> Tensor:
    return subject.points.stress(F, L) - subject.points.stress(F)


def _rates(subject: Subject, n: int) -> Tensor:
    """Velocity gradients of rates from 0.01 to 10,000 1/s."""
    return 10.0 ** (6.0 * subject.uniform(n, 1, 1) - 2.0) * subject.normal(n, 3, 3)


def _violations(subject: Subject, name: str, power: Tensor, allowed: Tensor, what: str) -> Check:
    bad = ~(power >= -allowed)
    note = f"{int(bad.sum())} of {len(power)} random paths with {what}"
    return subject.check(name, float(bad.sum()), 0.0, note)


def _steady_shear(subject: Subject) -> Iterator[Check]:
    """Shear stress of a steady shear flow, marched with three substeps: the viscosity must not know the substep."""
    rate, time = 2.0, 0.02
    stresses = []
    L = torch.zeros(1, 3, 3, dtype=torch.float64)
    L[0, 0, 1] = rate
    for steps in (20, 40, 80):
        F, h = subject.eye(1), subject.material.rest_history(1)
        dt = time / steps
        f = subject.eye(1) + dt * L
        for _ in range(steps):
            F, h = subject.points.project(f @ F, f, dt, h)
            h = h[:, : subject.material.history_size]
        stresses.append(float(_viscous(subject, F, L)[0, 0, 1] / torch.linalg.det(F[0])))
    spread = max(stresses) - min(stresses)
    yield subject.check(
        "viscosity and substep", spread / abs(stresses[-1]), 0.01, f"shear stress at {rate:g}/s at dt, dt/2, dt/4"
    )
    law = subject.material.viscous
    if law is not None and law.name in STEADY_SHEAR:
        values = subject.material.native()
        exact = STEADY_SHEAR[law.name](rate, values)
        error = abs(stresses[-1] - exact) / exact
        yield subject.check("viscosity", error, 0.01, f"{stresses[-1]:.6g} Pa at {rate:g}/s, exact {exact:.6g} Pa")


def inelastic_checks(subject: Subject) -> Iterator[Check]:
    """Frame indifference and dissipation of the return map, and the angle of friction where it has one."""
    yield from _map_invariance(subject)
    law = subject.material.inelastic
    if law is not None and law.overstress is not None:
        yield from _overstress_checks(subject)
    else:
        yield _plastic_dissipation(subject)
    # A learned strength has no angle that holds at every pressure.
    if "friction_angle" in subject.material.names and (law is None or law.network is None):
        yield from _friction(subject)


def _map_invariance(subject: Subject) -> Iterator[Check]:
    """Stress after one step from rest turns with the body, and does not know how the body was turned before."""
    F, Q, dt = subject.deformations(), subject.rotations(), 1e-3

    def after(F: Tensor) -> Tensor:
        F = subject.rounded(F)
        F_new, h = subject.points.project(F, F, dt)
        return subject.points.stress(F_new, None, h[:, : subject.material.history_size])

    tau, bar = after(F), subject.bar(1e-5, 1e-12)
    yield subject.check(
        "return map objectivity", relative(after(Q @ F), Q @ tau @ Q.mT), bar, "tau after QF turns with Q"
    )
    yield subject.check("return map isotropy", relative(after(F @ Q), tau), bar, "tau after FQ is that after F")


def _plastic_dissipation(subject: Subject) -> Check:
    """Free energy that the return map gives away at fixed total deformation, along random paths."""
    exact = Points(subject.material, F64)
    n = subject.samples
    F, h = subject.eye(n), subject.material.rest_history(n)
    worst = torch.zeros(n, dtype=torch.float64)
    for _step in range(_STEPS):
        f = subject.eye(n) + _STRAIN_PER_STEP * subject.in_plane(subject.normal(n, 3, 3))
        trial = subject.rounded(f @ F)
        F, h_new = subject.points.project(trial, f, 1e-3, h)
        h_new = h_new[:, : subject.material.history_size]
        lost = exact.energy(trial) + _stored(subject, h) - exact.energy(F) - _stored(subject, h_new)
        stress = exact.stress(trial).norm(dim=(1, 2))
        allowed = 20 * subject.roundoff * stress + (20 * subject.roundoff) ** 2 * subject.modulus
        worst = torch.minimum(worst, lost + allowed)
        worst = torch.where(lost.isfinite(), worst, torch.full_like(worst, -torch.inf))
        h = h_new
    return _violations(subject, "plastic dissipation", worst, torch.zeros(n), "energy made by the return map")


def _stored(subject: Subject, h: Tensor) -> Tensor:
    law = subject.material.inelastic
    if law is None or law.stored is None:
        return torch.zeros(h.shape[0], dtype=torch.float64)
    start, end = subject.material.laws.columns()["I"]
    theta = subject.material.theta().detach()[:, start:end].expand(h.shape[0], -1)
    return torch.vmap(law.stored.torch())(h, theta)


def _overstress_checks(subject: Subject) -> Iterator[Check]:
    """The overstress is the slope of the stored energy, and no path takes out more work than it put in."""
    law, laws = subject.material.inelastic, subject.material.laws
    assert law is not None and law.overstress is not None
    theta = subject.material.theta().detach()[0]
    start, end = laws.columns()["I"]
    if law.stored is None:
        yield subject.check("energy stated", float("inf"), 0.0, "the overstress states no stored energy")
        return
    F, h = subject.points.project(subject.deformations(50), subject.deformations(50), 1e-3)
    project, stored = laws.torch_project(), law.stored.torch()
    zero = torch.zeros((), dtype=torch.float64)

    def energy(f: Tensor, F: Tensor, h: Tensor) -> Tensor:
        return stored(project(f @ F, h, f, theta, zero)[1], theta[start:end])

    slope = torch.vmap(torch.func.grad(energy))(subject.eye(50), F, h)
    over = subject.points.stress(F, None, h) - subject.points.stress(F)
    yield subject.check("overstress energy", relative(over, slope), subject.bar(1e-5, 1e-10), "tau = d(stored)/df f^T")
    yield _overstress_dissipation(subject)


def _overstress_dissipation(subject: Subject) -> Check:
    """Work of the overstress minus the energy stored at the end, along paths of piecewise constant rate."""
    n = subject.samples // 4
    balance = []
    for dt in (1e-3, 1e-2, 1e-1, 1.0):
        F, h = subject.eye(n), subject.material.rest_history(n)
        work, size = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        before = torch.zeros(n, 3, 3, dtype=torch.float64)
        for step in range(3 * _STEPS):
            if step % _STEPS == 0:
                L = _STRAIN_PER_STEP * subject.in_plane(subject.normal(n, 3, 3))
                f = torch.linalg.matrix_exp(L)
            F, h = subject.points.project(f @ F, f, dt, h)
            over = subject.points.stress(F, None, h) - subject.points.stress(F)
            step_work = (0.5 * (before + over) * L).sum(dim=(1, 2))
            work, size, before = work + step_work, size + step_work.abs(), over
        balance.append((work - _stored(subject, h)) / size)
    all_paths = torch.cat(balance)
    note = f"energy gained; least dissipated {float(all_paths.min()):.3g} of the work"
    return _violations(subject, "viscoelastic dissipation", all_paths, torch.full_like(all_paths, _UNDECIDED), note)


def _friction(subject: Subject) -> Iterator[Check]:
    """Angles of friction and dilation that the map really has, by shearing a pressed block at constant volume."""
    values = dict(zip(subject.material.names, subject.material.theta().detach()[0].tolist(), strict=True))
    nominal, dilating = values["friction_angle"], values["dilation_angle"]
    plane, opening = _angles(subject, (1.0, -1.0, 0.0), (-0.02, -0.02, 0.0), values["cohesion"])
    told = f"plane strain slips at {math.degrees(plane):.3f} deg, nominal {math.degrees(nominal):.3f} deg"
    if subject.material.inelastic is not None and subject.material.inelastic.plane:
        yield subject.check("angle in plane strain [deg]", math.degrees(abs(plane - nominal)), 0.1, told)
    else:
        triaxial, opening = _angles(subject, (1.0, 1.0, -2.0), (-0.02, -0.02, -0.02), values["cohesion"])
        told = f"triaxial compression fails at {math.degrees(triaxial):.3f} deg; {told}"
        yield subject.check("angle in triaxial compression [deg]", math.degrees(abs(triaxial - nominal)), 0.1, told)
    told = f"shear grows the volume at {math.degrees(opening):.3f} deg, nominal {math.degrees(dilating):.3f} deg"
    yield subject.check("angle of dilation [deg]", math.degrees(abs(opening - dilating)), 0.1, told)


def _angles(
    subject: Subject, shear: tuple[float, ...], press: tuple[float, ...], cohesion: float
) -> tuple[float, float]:
    """Mobilised angles [rad] of friction and dilation of Mohr-Coulomb at the end of a path of shear.

    Friction: s1 - s3 = (s1 + s3) sin phi + 2 c cos phi of the pressures s1 > s3. Dilation: the plastic growth of
    volume over that plus twice the largest plastic compression (over the shear, in plane strain).
    """
    direction = torch.diag(torch.tensor(shear, dtype=torch.float64))[None]
    F = torch.linalg.matrix_exp(torch.diag(torch.tensor(press, dtype=torch.float64)))[None]
    h = subject.material.rest_history(1)
    f = torch.linalg.matrix_exp(2e-3 * direction)
    trial = F
    for _step in range(200):
        trial = f @ F
        F, h = subject.points.project(trial, f, 1e-3, h)
        h = h[:, : subject.material.history_size]
    tau = torch.diagonal(subject.points.stress(F, None, h)[0])
    axes = torch.tensor([i for i, s in enumerate(shear) if s != 0.0])
    pressure = -tau[axes]
    least, most = float(pressure.min()), float(pressure.max())
    friction = math.asin((most - least) / math.hypot(most + least, 2.0 * cohesion)) - math.atan2(
        2.0 * cohesion, most + least
    )
    plastic = torch.log(torch.diagonal(trial[0]) / torch.diagonal(F[0]))[axes]
    growth, pressed = float(plastic.sum()), -float(plastic.min())
    return friction, math.asin(growth / (growth + 2.0 * pressed))
