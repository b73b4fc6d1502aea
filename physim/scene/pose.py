"""A body that starts at rest in a static shape: that of gravity, or of scaled gravity up to a measured reading."""

from __future__ import annotations

import dataclasses

import torch

from physim.errors import InputError, SimulationError
from physim.laws import Material
from physim.observe.gauge import Gauge, Snapshot
from physim.scene.built import Built
from physim.sim.model import Model
from physim.sim.state import NodalState
from physim.solvers.solid.newton import Statics, static_shape
from physim.solvers.solid.solver import SolverSolid
from physim.solvers.solid.statics import equilibrium

CLOSE = 5e-3
"""Relative difference from the wanted reading below which the shape is only scaled to it."""
TRIES = 8
LARGEST = 50.0
"""Factor on gravity above which a reading counts as out of reach."""


def rested(built: Built, statics: Statics | None = None, start: torch.Tensor | None = None) -> tuple[Built, Statics]:
    """The scene with its first state in the static shape of the elastic laws under its gravity and loads.

    Args:
        built: with `solver: solid`.
        statics: of the same scene, to use again; made unless given.
        start: displacements of the nodes near the wanted ones [m], (m, 3).

    Raises:
        SceneError: a law without an energy.
        SimulationError: no static shape is found.
    """
    try:
        statics = statics or Statics(built.solver)
        u = static_shape(statics, start)
    except InputError as error:
        raise built.scene.error(("pose",), str(error)) from None
    state = built.solver.initial_state()
    state = state.replace(u=u.to(state.u))
    if built.solver.inelastic:
        state = _loaded(built, built.solver, state)
    return dataclasses.replace(built, state=state), statics


def posed(built: Built, gauge: Gauge) -> Built:
    """The scene with its first state in the pose that `pose` asks for.

    The shape is static, of the elastic laws alone, and at rest; gravity acts on bodies and loads with one factor,
    found by the secant method. Where the elastic law has one modulus and no force but gravity acts, the shape does
    not depend on that modulus. Relaxing branches start as after a sudden deformation, with nothing relaxed.

    Args:
        built: with `solver: solid`, undeformed.
        gauge: the observation that `pose.observe` names.

    Raises:
        SceneError: the reading cannot be reached.
    """
    part = built.scene.spec.pose
    assert part is not None and part.value is not None
    solver = _elastic_only(built)
    gravity = solver.model.gravity.double().cpu()
    state = solver.initial_state()

    def reading(at: NodalState) -> float:
        return float(gauge.read(Snapshot(solver.particles(at).x))[0])

    try:
        start = reading(state)
        scale, value, known = 1.0, 0.0, [(0.0, start)]
        for _ in range(TRIES):
            state = equilibrium(solver, state, acceleration=(scale - 1.0) * gravity)
            value = reading(state)
            if abs(value - part.value) <= CLOSE * abs(part.value - start):
                exact = state.replace(u=(part.value - start) / (value - start) * state.u)
                return dataclasses.replace(built, state=_loaded(built, solver, exact))
            known.append((scale, value))
            (a, ya), (b, yb) = known[-2:]
            scale = b + (part.value - yb) * (b - a) / (yb - ya) if yb != ya else 0.0
            if not 0.0 < scale < LARGEST:
                break
    except SimulationError as error:
        raise built.scene.error(("pose",), str(error)) from None
    raise built.scene.error(
        ("pose", "value"),
        f"no static shape reads {part.value:g} m: gravity alone gives {known[1][1]:.4g} m. Does gravity act along what "
        f"'{part.observe}' measures, and is the sign right?",
    )


def _elastic_only(built: Built) -> SolverSolid:
    """The same body without viscosity, relaxation or flow."""
    model, old = built.model, built.solver
    materials = []
    for material in model.materials:
        values = {n: v.detach() for n, v in material.values().items()}
        own = {p.name for law in (material.viscous, material.inelastic) if law for p in law.params}
        elastic = {n: v for n, v in values.items() if n not in own}
        materials.append(
            Material(
                material.elastic, rho0=material.rho0, values=elastic, network=material.network, fibre=material.fibre
            )
        )
    bare = Model(
        model.grid,
        model.vol0,
        materials,
        bodies=model.bodies,
        mass=model.mass,
        gravity=model.gravity,
        walls=model.walls,
        colliders=model.colliders,
    ).to(model.vol0.device)
    try:
        return SolverSolid(bare, built.x0.to(model.vol0), loads=old.loads)
    except InputError as error:
        raise built.scene.error(("pose",), str(error)) from None


def _loaded(built: Built, solver: SolverSolid, pose: NodalState) -> NodalState:
    """The scene's own first state, displaced as the pose is; its velocities are those of the scene."""
    u = solver.particles(pose).x.double() - solver.particles(solver.initial_state()).x.double()
    state = built.solver.initial_state(u=u)
    state = state.replace(u=pose.u.to(state.u))
    if state.F.shape[0] == 0:
        return state
    F, h = state.F.double(), state.h.double()
    for body in built.model.bodies:
        material = built.model.materials[body.material]
        rows = slice(body.start, body.stop)
        if material.inelastic is None:
            continue
        sudden, past = material.project(F[rows], F[rows], 1e-12, h=h[rows, : material.history_size])
        F[rows], h[rows, : material.history_size] = sudden.detach(), past.detach()
    return state.replace(F=F.to(state.F), h=h.to(state.h))
