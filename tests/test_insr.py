"""Fields, their rows, and steps of flows in weight space."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from physim.errors import GradientError, InputError
from physim.sim.rollout import rollout
from physim.sim.state import FieldState
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.insr.adam import Descent
from physim.solvers.insr.conditions import Linear, Mirrored, Moved, Periodic, Walled, wave_box
from physim.solvers.insr.defect import balance
from physim.solvers.insr.fields import Box, Field, Fourier, Gaussians, Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.halving import divided
from physim.solvers.insr.jets import coordinates
from physim.solvers.insr.maps import Weights, rows
from physim.solvers.insr.normal import Damped
from physim.solvers.insr.points import quadrature, scattered, surface
from physim.solvers.insr.project import Projection
from physim.solvers.insr.schemes import Scheme
from physim.solvers.insr.solver import Settings, SolverInsr
from physim.solvers.insr.tangent import derivatives
from physim.solvers.insr.transport import Transport

BOX = Box((-1.0, -1.0), (1.0, 2.0))
SQUARE = Box((-1.0, -1.0), (1.0, 1.0))
WAVES = wave_box(BOX, (0,))
UNIT = Box((-1.0, -1.0), (1.0, 1.0))
FIELDS: dict[str, Field] = {
    "siren": Siren(BOX, 6, 2, 3.0, 2),
    "fourier": Fourier(BOX, 4, 2.0, 5, 1, 2),
    "gaussians": Gaussians(BOX, 7, 1.5, 2),
    "walled": Walled(Siren(BOX, 6, 2, 3.0, 2), BOX, ((1, 2), (0, 1)), held=(1,)),
    "periodic": Periodic(Siren(WAVES, 6, 2, 3.0, 2), BOX, (0,)),
    "mirrored": Mirrored(Siren(UNIT, 6, 2, 3.0, 2), BOX),
    "linear": Linear(Siren(BOX, 6, 2, 3.0, 2)),
}
WANTED = [(0, 0), (1, 0), (1, 1), (0, 2), (2, 1)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def begun(field: Field) -> Tensor:
    return field.start(torch.Generator().manual_seed(0)) + 0.1 * drawn(field.size)


@pytest.mark.parametrize("name", FIELDS)
def test_derivatives_are_exact(name: str) -> None:
    field, x = FIELDS[name], torch.rand(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = begun(field)
    found = field(Weights(weights), coordinates(x, 3)).derivatives(WANTED)
    at = x.clone().requires_grad_()
    for output in range(2):
        for k, index in enumerate(WANTED):
            value = field(Weights(weights), coordinates(at, 0)).value[:, output]
            for axis, times in enumerate(index):
                for _ in range(times):
                    (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
                    value = slope[:, axis]
            assert torch.allclose(found[:, output, k], value.detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FIELDS)
def test_rows_and_changes_are_those_of_autograd(name: str) -> None:
    field, x = FIELDS[name], torch.rand(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights, along = begun(field), drawn(field.size, seed=2)

    def seen(given: Weights) -> Tensor:
        return field(given, coordinates(x, 3)).derivatives(WANTED).flatten(1)

    values, found = rows(weights, seen)
    some = torch.randperm(len(weights), generator=torch.Generator().manual_seed(4))[:9].sort().values
    assert torch.equal(rows(weights, seen, some)[1], found[..., some])
    wanted = torch.autograd.functional.jacobian(lambda w: seen(Weights(w)), weights)
    assert isinstance(wanted, Tensor)
    assert torch.allclose(values, seen(Weights(weights)))
    assert torch.allclose(found, wanted.permute(1, 0, 2), rtol=1e-10, atol=1e-10)
    both = field(Weights(weights, along), coordinates(x, 3, True))
    pushed = both.derivatives([(*i, 1) for i in WANTED]).flatten(1)
    assert torch.allclose(pushed, (found @ along).T, rtol=1e-10, atol=1e-9)


def test_conditions_hold_for_all_weights() -> None:
    low = torch.tensor([[-1.0, 0.3], [-1.0, 1.7]], dtype=torch.float64)
    high = low * torch.tensor([-1.0, 1.0])
    walled = FIELDS["walled"](Weights(begun(FIELDS["walled"])), coordinates(torch.cat([low, high]), 1))
    seen = walled.derivatives([(0, 0), (1, 0)])
    assert seen[:, 1, 0].abs().max() == 0.0 and seen[2:, 1, 1].abs().max() < 1e-15
    assert seen[:, 0, 0].abs().min() > 0.0, "the output that is not held is free"
    periodic = FIELDS["periodic"]
    a, b = (periodic(Weights(begun(periodic)), coordinates(x, 3)).derivatives(WANTED) for x in (low, high))
    assert torch.allclose(a, b, atol=1e-10)
    mirrored = FIELDS["mirrored"](Weights(begun(FIELDS["mirrored"])), coordinates(low, 2))
    assert mirrored.derivatives([(0, 0), (2, 0), (0, 1)]).abs().max() < 1e-12


def test_points_integrate() -> None:
    box = Box((0.0, 1.0), (2.0, 4.0))
    for periodic in ((), (0,)):
        at = quadrature(box, 200, periodic)
        assert float(at.weight.sum()) == pytest.approx(1.0)
    at = quadrature(box, 200)
    assert float((at.weight * at.x[:, 0] ** 6 * at.x[:, 1] ** 3).sum()) * 6 == pytest.approx(2**7 / 7 * 255 / 4)
    around = surface(box, 0.1)
    assert float(around.weight.sum()) == pytest.approx(10.0)
    spread = scattered(box, 100, torch.Generator().manual_seed(0))
    assert ((spread.x > torch.tensor([0.0, 1.0])) & (spread.x < torch.tensor([2.0, 4.0]))).all()


@pytest.mark.parametrize(("count", "size"), [(40, 12), (12, 40)])
def test_damped_normal_equations(count: int, size: int) -> None:
    a, g = drawn(count, size), drawn(size, seed=1)
    system = Damped(a)
    exact = torch.linalg.solve(a.T @ a + 1e-3 * system.scale * torch.eye(size, dtype=a.dtype), g)
    assert torch.allclose(system.solve(g, 1e-3), exact, rtol=1e-8)


def pulse(x: Tensor, t: float = 0.0) -> Tensor:
    return torch.exp(-0.5 * ((x - 0.25 * t + 0.8) / 0.2) ** 2)


def test_a_pulse_is_carried_along() -> None:
    box = Box((-2.0,), (2.0,))
    solver = SolverInsr(Transport([0.25]), Siren(box, 14, 2, 12.0), box)
    x = torch.linspace(-2, 2, 500, dtype=torch.float64)[:, None]
    with torch.no_grad():
        start = solver.initial_state(pulse)
        end = rollout(solver, start, dt=0.05, steps=12).final
        again = rollout(solver, start, dt=0.05, steps=12).final
    missed = float((solver.carried(end, x) - pulse(x, end.t)).square().mean().sqrt())
    assert missed < 1e-5 and end.t == pytest.approx(0.6)
    assert torch.equal(end.weights, again.weights), "a step is a function of its state"
    assert float((solver.carried(start, x) - pulse(x, end.t)).square().mean().sqrt()) > 0.1, "it has moved"


def test_adam_finds_the_same_step_less_well() -> None:
    box = Box((-2.0,), (2.0,))
    field = Siren(box, 14, 2, 12.0)
    at = torch.linspace(-2, 2, 300, dtype=torch.float64)[:, None]
    missed = {}
    for name, adam in (("newton", None), ("adam", Descent(rate=1e-4, least=1e-6, patience=30, most=400))):
        how = Settings(projection=Projection(tolerance=1e-8, linearisations=6, adam=adam))
        solver = SolverInsr(Transport([0.25]), field, box, settings=how)
        with torch.no_grad():
            state = solver.initial_state(pulse)
            moved = float((pulse(at) - pulse(at, 0.05)).square().mean().sqrt())
            state = solver.step(state, None, 0.05)
        missed[name] = float((solver.carried(state, at) - pulse(at, 0.05)).square().mean().sqrt())
    assert missed["newton"] < 0.1 * missed["adam"] < 0.1 * moved


def cells(x: Tensor) -> Tensor:
    a, b = math.pi * (x[:, 0] + 1), math.pi * (x[:, 1] + 1)
    return torch.stack([a.sin() * b.cos(), -a.cos() * b.sin()], dim=1) / math.pi


def vortex(nu: float | Tensor, scheme: Scheme = Scheme.RUNGE_KUTTA, width: int = 12) -> SolverInsr:
    return SolverInsr(Flow(nu), Mirrored(Siren(UNIT, width, 2, 3.0), SQUARE), SQUARE, scheme=scheme)


@pytest.mark.parametrize(
    ("scheme", "close"),
    [(Scheme.RUNGE_KUTTA, 1e-4), (Scheme.IMPLICIT_MIDPOINT, 1e-4), (Scheme.BACKWARD_EULER, 1e-2)],
)
def test_a_vortex_decays_as_in_the_closed_form(scheme: Scheme, close: float) -> None:
    nu, steps = 0.02, 5
    solver = vortex(nu, scheme)
    with torch.no_grad():
        state = rollout(solver, solver.initial_state(cells), dt=0.05, steps=steps).final
    x = scattered(SQUARE, 300, torch.Generator().manual_seed(3)).x
    exact = cells(x) * math.exp(-2 * math.pi**2 * nu * state.t)
    assert float((solver.carried(state, x) - exact).abs().max()) < close
    at = x.clone().requires_grad_()
    u = solver.carried(state, at)
    (du,), (dv,) = (torch.autograd.grad(u[:, k].sum(), at, retain_graph=True) for k in range(2))
    assert float((du[:, 0] + dv[:, 1]).abs().max()) < 1e-12
    assert solver.stable_dt(state) > (0.05 if scheme is Scheme.RUNGE_KUTTA else 1e9)


def test_a_periodic_vortex_decays_across_all_sides() -> None:
    nu, field = 0.02, Periodic(Siren(wave_box(SQUARE, (0, 1)), 12, 2, 2.0), SQUARE, (0, 1))
    aside = torch.tensor([0.3, -0.2], dtype=torch.float64)
    solver = SolverInsr(Flow(nu), field, SQUARE, periodic=(0, 1))
    with torch.no_grad():
        state = rollout(solver, solver.initial_state(lambda x: cells(x + aside)), dt=0.05, steps=3).final
        x = scattered(SQUARE, 300, torch.Generator().manual_seed(3)).x
        off = solver.carried(state, x) - cells(x + aside) * math.exp(-2 * math.pi**2 * nu * state.t)
    assert float(off.abs().max()) < 1e-3 and state.defect < 1e-2


@pytest.mark.parametrize("scheme", [Scheme.RUNGE_KUTTA, Scheme.IMPLICIT_MIDPOINT])
def test_gradient_of_the_energy_by_viscosity(scheme: Scheme) -> None:
    """dKE/dnu = -4 pi^2 t KE, and central differences."""
    at = quadrature(SQUARE, 400)

    def energy(nu: Tensor) -> tuple[SolverInsr, Tensor]:
        solver = vortex(nu, scheme, width=10)
        state = solver.initial_state(cells)
        for _ in range(4):
            state = solver.step(state, None, 0.05)
        return solver, 2.0 * (at.weight[:, None] * solver.carried(state, at.x).square()).sum()

    solver, value = energy(torch.tensor(0.02, dtype=torch.float64, requires_grad=True))
    value.backward()
    (found,) = (float(p.grad) for p in solver.problem.parameters() if p.grad is not None)
    assert found == pytest.approx(-4 * math.pi**2 * 0.2 * float(value.detach()), rel=1e-3)
    with torch.no_grad():
        high, low = (float(energy(torch.tensor(n, dtype=torch.float64))[1]) for n in (0.0202, 0.0198))
    assert found == pytest.approx((high - low) / 4e-4, rel=1e-4)


def test_the_residual_along_characteristics_knows_no_length_of_step() -> None:
    box = Box((-2.0,), (2.0,))
    solver = SolverInsr(Transport([0.25]), Siren(box, 14, 2, 12.0), box)
    x = torch.linspace(-1.9, 1.9, 200, dtype=torch.float64)[:, None]
    with torch.no_grad():
        state = solver.step(solver.initial_state(pulse), None, 2.0)
    assert state.dt == 2.0, "two and a half widths of the pulse in one step"
    assert float(solver.residual(state, x).max()) < 0.01


def test_of_many_weights_some_move_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scattered(SQUARE, 300, torch.Generator().manual_seed(3)).x
    solver, found = vortex(0.02, width=14), {}
    monkeypatch.setattr("physim.solvers.insr.normal.CHOSEN", solver.field.size // 2)
    with torch.no_grad():
        for most in (3000, 100):
            monkeypatch.setattr("physim.solvers.insr.normal.MANY", most)
            solver.stepper.latest = None
            start = solver.initial_state(cells)
            end = rollout(solver, start, dt=0.05, steps=5).final
            found[most] = solver.carried(end, x)
            again = rollout(solver, start, dt=0.05, steps=5).final
            assert torch.equal(end.weights, again.weights), "a step is a function of its state"
    for u in found.values():
        assert float((u - cells(x) * math.exp(-2 * math.pi**2 * 0.02 * 0.25)).abs().max()) < 2e-4
    assert not torch.equal(found[100], found[3000])
    monkeypatch.setattr("physim.solvers.insr.steps.MANY", 100)
    with pytest.raises(GradientError, match="up to 100 weights"):
        solver.step(start.replace(weights=start.weights.requires_grad_()), None, 0.05)


def test_a_hill_is_carried_across_a_square() -> None:
    def hill(x: Tensor, t: float = 0.0) -> Tensor:
        centre = torch.tensor([-0.3 + 0.5 * t, 0.2 - 0.4 * t], dtype=torch.float64)
        return torch.exp(-0.5 * ((x - centre) / 0.15).square().sum(dim=1, keepdim=True))

    solver = SolverInsr(Transport([0.5, -0.4]), Siren(SQUARE, 16, 2, 8.0), SQUARE)
    x = scattered(SQUARE, 1000, torch.Generator().manual_seed(3)).x
    with torch.no_grad():
        end = rollout(solver, solver.initial_state(hill), dt=0.1, steps=5).final
        missed = float((solver.carried(end, x) - hill(x, end.t)).square().mean().sqrt())
    assert missed < 2e-4 and float((hill(x) - hill(x, end.t)).square().mean().sqrt()) > 0.1


def test_gradient_by_the_first_weights() -> None:
    """Through steps along characteristics, and in the tangent space."""
    box = Box((-2.0,), (2.0,))
    carried = SolverInsr(
        Transport([0.25]), Siren(box, 8, 2, 6.0), box, settings=Settings(projection=Projection(1e-12, 30))
    )
    x = torch.linspace(-1.1, -0.4, 7, dtype=torch.float64)[:, None]
    for solver, first, at in ((carried, pulse, x), (vortex(0.02, width=8), cells, drawn(6, 2).clamp(-0.9, 0.9))):
        begin = solver.initial_state(first)
        weights = begin.weights.clone().requires_grad_()

        def end(w: Tensor, solver: SolverInsr = solver, begin=begin, at: Tensor = at) -> Tensor:  # type: ignore[no-untyped-def]
            state = begin.replace(weights=w, before=w.detach())
            for _ in range(2):
                state = solver.step(state, None, 0.05)
            return solver.carried(state, at).square().sum()

        (slope,) = torch.autograd.grad(end(weights), weights)
        # A direction that changes the field: weights that do not are left where they are by the search.
        along = slope / slope.norm()
        with torch.no_grad():
            h = 1e-4
            difference = (end(weights.detach() + h * along) - end(weights.detach() - h * along)) / (2 * h)
        assert float(slope @ along) == pytest.approx(float(difference), rel=1e-3)


def test_a_field_that_is_too_small_says_so() -> None:
    box = Box((-2.0,), (2.0,))
    solver = SolverInsr(Transport([0.25]), Siren(box, 2, 1, 3.0), box)
    with pytest.raises(RolloutFailure, match=r"cannot show the initial condition.*misses .* with 7 weights") as caught:
        solver.initial_state(pulse)
    assert caught.value.status is Status.UNRESOLVED


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_a_flow_at_rest_is_no_failure(speed: float) -> None:
    """From the start, or after it has come to rest."""
    solver = vortex(0.5, width=8)
    with torch.no_grad():
        state = solver.initial_state(lambda x: speed * cells(x))
        end = rollout(solver, state, dt=0.02, steps=45).final
    assert float(solver.carried(end, quadrature(SQUARE, 100).x).abs().max()) < 2e-4


def test_a_step_that_is_too_long_is_told() -> None:
    solver = vortex(0.02, width=8)
    with torch.no_grad():
        state = solver.initial_state(cells)
        with pytest.raises(RolloutFailure) as caught:
            rollout(solver, state, dt=60.0 * solver.stable_dt(state), steps=10)
    assert caught.value.status is Status.MISSED and "smaller dt" in str(caught.value)


def test_steps_are_halved_where_they_do_not_hold() -> None:
    tried: list[float] = []

    def once(state: FieldState, dt: float) -> FieldState:
        tried.append(dt)
        if dt > 0.5:
            raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=state.t)
        return state.replace(t=state.t + dt, dt=dt, defect=dt**2)

    nothing = torch.zeros(1)
    begin = FieldState(nothing, nothing)
    end = divided(once, begin, 1.0, tolerance=0.02, halvings=5)
    assert end.t == pytest.approx(1.0) and end.dt == 0.125 and tried[:4] == [1.0, 0.5, 0.25, 0.125]
    tried.clear()
    assert divided(once, end, 1.0, tolerance=0.02, halvings=5).t == pytest.approx(2.0)
    assert tried[0] == max(tried) == 0.25 and tried.count(0.25) == 1, "what did not hold is tried again once"
    with pytest.raises(RolloutFailure, match=r"0\.25 s leaves 0\.062 of .* 0\.02 is allowed.*1 s were asked for"):
        divided(once, begin, 1.0, tolerance=0.02, halvings=2)
    floor = divided(lambda s, dt: s.replace(t=s.t + dt, dt=dt, defect=0.015 + 0.01 * dt), begin, 1.0, 0.02, 5)
    assert floor.dt == 0.5, "half a step that holds is taken, however little it helps"
    with pytest.raises(RolloutFailure, match=r"leaves 0\.2 .* 0\.02 is allowed.*half the step does not help"):
        divided(lambda s, dt: s.replace(t=s.t + dt, dt=dt, defect=0.2), begin, 1.0, tolerance=0.02, halvings=5)


def swirl(x: Tensor) -> Tensor:
    """A flow that moves, with speeds of about a half."""
    a, b = 0.5 * math.pi * (x + 1).T
    along = b.cos() * (a.sin() + 0.5 * (2 * a).sin())
    up = -b.sin() * (a.cos() + (2 * a).cos())
    return 0.5 * torch.stack([along, up], dim=1)


def test_random_points_are_noticed_elsewhere() -> None:
    """The pressure's gradient is taken for motion where points do not integrate."""
    field = Walled(Siren(SQUARE, 14, 2, 4.0), SQUARE, ((1, 1), (1, 1)))
    with torch.no_grad():
        good = SolverInsr(Flow(), field, SQUARE)
        state = good.initial_state(swirl)
        loose = scattered(SQUARE, good.count, torch.Generator().manual_seed(3))
        assert good.step(state, None, 0.02).defect < 0.02
        with pytest.raises(RolloutFailure, match=r"of the equation's terms|misses"):
            SolverInsr(Flow(), field, SQUARE, points=loose).step(state, None, 0.02)


def test_defects_drive_steps() -> None:
    """Of a flow that moves; against steps that are far shorter."""
    off, x = {}, scattered(SQUARE, 300, torch.Generator().manual_seed(3)).x
    with torch.no_grad():
        for name, tolerance, steps in (("short", 1.0, 16), ("one", 1.0, 2), ("judged", 1e-3, 2)):
            field = Walled(Siren(SQUARE, 14, 2, 4.0), SQUARE, ((1, 1), (1, 1)))
            solver = SolverInsr(Flow(), field, SQUARE, settings=Settings(defect=tolerance))
            state = rollout(solver, solver.initial_state(swirl), dt=0.8 / steps, steps=steps).final
            off[name] = solver.carried(state, x)
            assert state.defect < tolerance and state.t == pytest.approx(0.8)
            assert (state.dt < 0.8 / steps) == (name == "judged")
    one, judged = (float((off[k] - off["short"]).square().mean().sqrt()) for k in ("one", "judged"))
    assert judged < 0.6 * one


def test_a_gradient_of_a_search_that_has_not_ended_is_refused() -> None:
    box = Box((-2.0,), (2.0,))
    loose = Settings(projection=Projection(tolerance=1e-9, linearisations=1, repeats=0, damping=1e-1))
    solver = SolverInsr(Transport([0.25]), Siren(box, 8, 2, 6.0), box, settings=loose)
    state = solver.initial_state(pulse)
    state = state.replace(weights=state.weights.clone().requires_grad_())
    after = solver.step(state, None, 0.05)
    with pytest.raises(GradientError, match=r"misses .* would be off|ended .* from its minimum"):
        solver.carried(after, quadrature(box, 20).x).sum().backward()


@pytest.mark.parametrize("nu", [0.0, 0.03])
def test_the_balance_of_vorticity_is_the_curl_of_the_rate(nu: float) -> None:
    solver = vortex(nu, width=8)
    assert isinstance(solver.problem, Flow)
    flat = begun(solver.field)
    x = drawn(5, 2).clamp(-0.9, 0.9).requires_grad_()
    rate = solver.problem.rate(derivatives(solver.field, Weights(flat), x, solver.problem.wanted))
    (du,), (dv,) = (torch.autograd.grad(rate[:, k].sum(), x, retain_graph=True) for k in range(2))
    found = balance(solver.problem, solver.field, flat, x)
    assert torch.allclose(found.rate[:, 0], dv[:, 0] - du[:, 1], rtol=1e-9, atol=1e-9)
    assert bool((found.rate[:, 0].abs() <= found.size + 1e-12).all())


def test_the_residual_is_that_of_a_step() -> None:
    solver = vortex(0.02)
    with torch.no_grad():
        state, x = solver.initial_state(cells), drawn(50, 2).clamp(-0.9, 0.9)
        with pytest.raises(InputError, match="no step has been taken"):
            solver.residual(state, x)
        after = solver.step(state, None, 0.05)
        good = solver.residual(after, x)
        # The same step told to have taken half as long leaves as much of the equation as it did.
        bad = solver.residual(after.replace(dt=0.025), x)
    assert float(good.max()) < 0.01 < 0.1 < float(bad.max())
    assert after.defect == pytest.approx(float(good.square().mean().sqrt()), rel=1.0)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InputError, match="field of 1 coordinates in a box of 2"):
        SolverInsr(Flow(), Siren(Box((0.0,), (1.0,))), SQUARE)
    with pytest.raises(InputError, match="begins with a function"):
        vortex(0.0).initial_state()
    with pytest.raises(InputError, match="lower < upper"):
        Box((0.0,), (0.0,))
    with pytest.raises(InputError, match="conditions that move are those of bodies"):
        moving = Moved(Siren(SQUARE, 6, 1, 3.0), SQUARE, 0, True, lambda t: torch.tensor([t], dtype=torch.float64))
        SolverInsr(Transport([0.1, 0.0]), Walled(moving, SQUARE, ((1, 0), (0, 0))), SQUARE)
    with pytest.warns(UserWarning, match="nothing tells the vorticity"):
        SolverInsr(Flow(0.1), Walled(Siren(SQUARE, 6, 1, 3.0), SQUARE, ((1, 1), (1, 1))), SQUARE)
    solver = vortex(0.0, width=6)
    state = solver.initial_state(lambda x: 0.0 * x)
    with pytest.raises(InputError, match="lies outside of the flow"):
        solver.velocity(state, torch.tensor([[2.0, 0.0, 0.0]]))
