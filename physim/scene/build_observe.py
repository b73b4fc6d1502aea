"""Scene entries about measurements to gauges on a built model, and to observations with their records."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from physim.errors import InputError
from physim.observe.front import Front
from physim.observe.gauge import Gauge, Snapshot, axis_indices, unit_vector
from physim.observe.gauges import Coordinate, Force, Mean, Particles, Spread, Velocities, volume_share
from physim.observe.observer import reader
from physim.observe.record import ORDERS, Observation
from physim.observe.robust import HUBER_DELTA
from physim.observe.tracks import Tracks
from physim.scene.build_space import make_shape
from physim.scene.built import Built
from physim.scene.fields import padded
from physim.scene.tables import Table

# Width of a soft front in particle spacings.
SOFT = 0.5

# What a solver calls its function from a state and the substep to the forces on its colliders [N], (c, 3), if any.
FORCES = "collider_forces"


def make_gauges(built: Built) -> dict[str, Gauge]:
    """The gauge of every observation that is not of a video, by name.

    Raises:
        SceneError: a region without particles, a marker out of reach.
    """
    found = {}
    for name, part in built.scene.spec.observe.items():
        if part.kind not in _MAKERS:
            continue
        try:
            found[name] = _MAKERS[part.kind](built, name, part)
        except InputError as error:
            raise built.scene.error(("observe", name), str(error)) from None
    return found


def make_observations(built: Built, gauges: dict[str, Gauge] | None = None) -> list[Observation]:
    """The observations that have a table, ready to be compared with a rollout.

    Without `noise`, the noise is taken as 1 % of the record's largest value: it then weighs, and measures nothing.

    Raises:
        SceneError: a record that does not fit its gauge.
    """
    gauges = make_gauges(built) if gauges is None else gauges
    found = []
    for name, part in built.scene.spec.observe.items():
        if part.data is None:
            continue
        try:
            found.append(_observation(name, part, gauges[name], built.scene.tables[part.data]))
        except InputError as error:
            raise built.scene.error(("observe", name), str(error)) from None
    return found


def see(built: Built) -> Callable[[Any], Snapshot]:
    """What the gauges look at: positions, time, and the forces on colliders where the solver offers them."""
    solver = built.solver
    wanted = any(p.kind == "force" for p in built.scene.spec.observe.values())
    forces = getattr(solver, FORCES, None) if wanted else None

    def snapshot(state: Any) -> Snapshot:
        seen = solver.particles(state)
        velocity = partial(solver.velocity, state) if hasattr(solver, "velocity") else None
        return Snapshot(seen.x, forces(state, built.dt) if forces else None, seen.t, velocity)

    return snapshot


def gauge_reader(built: Built, gauges: dict[str, Gauge]) -> Callable[[Any], torch.Tensor]:
    """A `save` function for `rollout`: all gauges in one row."""
    return reader(list(gauges.values()), see(built))


def _region(built: Built, part: Any) -> torch.Tensor:
    """Indices of the particles that an observation covers."""
    rows = built.rows(part.body)
    region = getattr(part, "region", None)
    if region is None:
        return rows
    shape, dim = make_shape(region), built.scene.spec.dim
    inside = shape.signed_distance(built.x0[rows].numpy(), dim=dim) <= 1e-9 * built.model.grid.dx
    if not inside.any():
        raise InputError("the region holds no particle at the start; move or enlarge it.")
    return rows[torch.as_tensor(inside)]


def _coordinate(part: Any) -> Coordinate:
    origin = torch.tensor(padded(getattr(part, "origin", None) or (0.0, 0.0)), dtype=torch.float64)
    return Coordinate(unit_vector(padded(part.direction)), origin, getattr(part, "radial", False))


def _mean(built: Built, name: str, part: Any) -> Gauge:
    rows, coordinate = _region(built, part), _coordinate(part)
    share = volume_share(built.model.vol0.cpu(), rows)
    zero = float((coordinate.of(built.x0[rows]) * share).sum()) if part.kind == "displacement" else 0.0
    return Mean(rows, share, coordinate, zero, name)


def _front(built: Built, name: str, part: Any) -> Gauge:
    rows = built.rows(part.body)
    spacing = min(b.spacing for b in built.bodies if part.body in (None, b.name))
    share = volume_share(built.model.vol0.cpu(), rows)
    return Front(rows, share, _coordinate(part), part.width or SOFT * spacing, part.fraction, name=name)


def _radius(built: Built, name: str, part: Any) -> Gauge:
    rows = built.rows(part.body)
    directions = torch.stack([unit_vector(padded(d)) for d in part.directions])
    return Spread(rows, volume_share(built.model.vol0.cpu(), rows), directions, name)


def _force(built: Built, name: str, part: Any) -> Gauge:
    if not hasattr(built.solver, FORCES):
        solver = built.scene.spec.solver
        raise InputError(f"`solver: {solver}` records no forces on colliders; observe a position instead.")
    index = next(i for i, c in enumerate(built.model.colliders) if c.name == part.collider)
    return Force(index, unit_vector(padded(part.direction)), name)


def _tracks(built: Built, name: str, part: Any) -> Gauge:
    points = torch.tensor([padded(p) for p in part.points.values()], dtype=torch.float64)
    return Tracks.bind(
        built.x0,
        points,
        candidates=built.rows(part.body),
        axes=axis_indices(part.axes),
        displacement=part.displacement,
        names=tuple(part.points),
        mean=part.mean,
        reach=part.reach,
    )


def _particles(built: Built, name: str, part: Any) -> Gauge:
    rows = built.rows(part.body)
    if part.count is not None and part.count < len(rows):
        rows = rows[torch.linspace(0, len(rows) - 1, part.count).round().long()]
    return Particles(rows, axis_indices(part.axes))


def _velocity(built: Built, name: str, part: Any) -> Gauge:
    if not hasattr(built.solver, "velocity"):
        solver = built.scene.spec.solver
        raise InputError(f"`solver: {solver}` tells no velocities at points; use `solver: insr`, or tracks.")
    points = torch.tensor([padded(p) for p in part.points.values()], dtype=torch.float64)
    built.solver.velocity(built.state, points)
    return Velocities(points, tuple(part.points), axis_indices(part.axes))


_MAKERS: dict[str, Callable[[Built, str, Any], Gauge]] = {
    "position": _mean,
    "displacement": _mean,
    "front": _front,
    "radius": _radius,
    "force": _force,
    "tracks": _tracks,
    "particles": _particles,
    "velocity": _velocity,
}


def _observation(name: str, part: Any, gauge: Gauge, table: Table) -> Observation:
    time = part.time or table.columns[0]
    columns = part.values or tuple(c for c in table.columns if c != time)
    if len(columns) != len(gauge.columns):
        raise InputError(
            f"'{name}' reads {len(gauge.columns)} values ({', '.join(gauge.columns[:6])}), but '{table.name}' "
            f"gives {len(columns)} ({', '.join(columns[:6])}); name the columns with `values`."
        )
    values = np.stack([table.column(c) for c in columns], axis=1)
    valid = np.isfinite(values)
    if not valid.any():
        raise InputError(f"the record in '{table.name}' is empty.")
    clock = table.column(time)
    if not np.isfinite(clock).all():
        raise InputError(f"a time is missing in '{table.name}'.")
    sigma = part.noise if part.noise is not None else 0.01 * float(np.abs(values[valid]).max())
    return Observation(
        name=name,
        gauge=gauge,
        times=torch.as_tensor(clock),
        values=torch.as_tensor(np.where(valid, values, 0.0)),
        sigma=torch.as_tensor(sigma, dtype=torch.float64),
        valid=torch.as_tensor(valid),
        held_out=part.holdout,
        huber=None if part.loss == "squares" else part.huber or HUBER_DELTA,
        order=ORDERS[part.interpolation],
        delay=part.delay,
        weight=part.weight,
    )
