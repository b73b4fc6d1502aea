"""Names in a scene that must exist, and entries that must fit each other."""

from __future__ import annotations

import itertools
import math
from typing import Any

from physim.errors import InputError
from physim.scene.document import Key
from physim.scene.materials import MaterialSpec
from physim.scene.parameters import free_network, free_number
from physim.scene.paths import SCENES, shipped_names
from physim.scene.problems import Findings, known
from physim.scene.solver_rules import required
from physim.scene.spec import ScenePart
from physim.scene.spec_fit import ParameterPart
from physim.scene.spec_learn import GRADIENT_KEYS
from physim.scene.spec_measure import ForcePart, TablePart, VelocityPart
from physim.scene.spec_space import SIDES
from physim.scene.tables import Table
from physim.scene.units import FORCE, LENGTH, NUMBER, PRESSURE, TIME, VELOCITY, Dimension, UnitError, parse

MIRRORED = ("mirror_slip", "mirror_no_slip")


def check_references(
    spec: ScenePart, materials: dict[str, MaterialSpec], tables: dict[str, Table], findings: Findings
) -> ScenePart:
    """Note what does not fit, and return the scene with every remaining quantity in SI."""
    required(spec, findings)
    _bodies(spec, materials, findings)
    _sides(spec, findings)
    _frames(spec, findings)
    _observations(spec, tables, findings)
    for name, table in spec.tables.items():
        _stress_table(("tables", name), table, spec, tables, findings)
    _fit(spec, materials, findings)
    return _expectation(spec, materials, findings)


def _bodies(spec: ScenePart, materials: dict[str, MaterialSpec], findings: Findings) -> None:
    for name, body in spec.bodies.items():
        path = ("bodies", name)
        if not known(findings, (*path, "material"), "material", body.material, materials):
            continue
        if materials[body.material].density is None:
            findings.add(("materials", body.material), f"needs a `density`, because the body '{name}' is made of it")
        if spec.dim == 2 and body.spin is not None and (len(body.spin) != 3 or any(body.spin[:2])):
            findings.add((*path, "spin"), "in 2D a body spins about z only: write [0, 0, w]")
        if spec.dim == 2 and body.shape.kind in ("mesh",):
            findings.add((*path, "shape"), "a mesh needs `dim: 3`; in 2D use a box, sphere (a disk) or polygon")
        if body.counts is not None and len(body.counts) != spec.dim:
            findings.add((*path, "counts"), f"expected {spec.dim} whole numbers, got {len(body.counts)}")


def _sides(spec: ScenePart, findings: Findings) -> None:
    if spec.walls.all is not None and spec.walls.all.position is not None:
        findings.add(("walls", "all", "position"), "a position is for one side; name it, such as `y_min`")
    for side in SIDES:
        part = getattr(spec.walls, side)
        if part is None:
            continue
        if spec.dim == 2 and side[0] == "z":
            findings.add(("walls", side), "a 2D scene has no z walls")
        if spec.grid is not None and side[0] in spec.grid.periodic and part.type != "open":
            findings.add(("walls", side), f"axis {side[0]} is periodic and cannot have a wall")
        _position(spec, side, findings)
    if spec.solver == "solid":
        for side in ("all", *SIDES):
            part = getattr(spec.walls, side)
            if part is not None and part.type not in (*MIRRORED, "open"):
                findings.add(("walls", side), f"`solver: solid` has mirrored walls and clamps only, got '{part.type}'")


def _position(spec: ScenePart, side: str, findings: Findings) -> None:
    """A wall must lie on the grid, and a mirrored one on a node or midway between two."""
    part, grid = getattr(spec.walls, side), spec.grid
    if part.position is None or grid is None or grid.origin is None or not (grid.upper or grid.size):
        return
    axis = "xyz".index(side[0])
    if axis >= len(grid.origin):
        return
    low = grid.origin[axis]
    high = grid.upper[axis] if grid.upper is not None else low + (grid.size or ())[axis]
    reach = grid.margin * grid.dx
    if not low - reach <= part.position <= high + reach:
        findings.add(
            ("walls", side, "position"), f"{part.position:g} m is off the grid, which spans {low:g} to {high:g} m"
        )
        return
    halves = 2.0 * (part.position - low) / grid.dx
    if part.type in MIRRORED and abs(halves - round(halves)) > 1e-4:
        findings.add(
            ("walls", side, "position"),
            f"a mirrored wall lies on a node or midway between two; {part.position:g} m does not. The nearest place is "
            f"{low + round(halves) * grid.dx / 2:.8g} m",
        )


def _frames(spec: ScenePart, findings: Findings) -> None:
    time = spec.time
    if time is None:
        return
    frame = time.frame if time.frame is not None else time.duration / 100.0
    if isinstance(time.dt, float):
        steps = frame / time.dt
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
            what = "frame" if time.frame is not None else "duration/100 (there is no `frame`)"
            findings.add(
                ("time", "dt"),
                f"{what} = {frame:g} s is {steps:.6g} steps of {time.dt:g} s; a whole number is needed, such as "
                f"dt = {frame / math.ceil(steps):.8g} s",
            )
    frames = time.duration / frame
    if abs(frames - round(frames)) > 1e-6 * frames:
        findings.add(
            ("time", "duration"),
            f"{time.duration:g} s is {frames:.6g} frames of {frame:g} s; a whole number is needed, such as "
            f"duration = {max(1, round(frames)) * frame:.8g} s",
        )


def gauge_dimension(part: Any) -> Dimension:
    """What an observation measures."""
    if isinstance(part, VelocityPart):
        return VELOCITY
    return FORCE if isinstance(part, ForcePart) else LENGTH


def _observations(spec: ScenePart, tables: dict[str, Table], findings: Findings) -> None:
    for name, film in spec.videos.items():
        known(findings, ("videos", name, "camera"), "camera", film.camera, spec.cameras)
    for name, part in spec.observe.items():
        path, dimension = ("observe", name), gauge_dimension(part)
        body = getattr(part, "body", None)
        if body is not None:
            known(findings, (*path, "body"), "body", body, spec.bodies)
        if hasattr(part, "video"):
            if part.video is not None:
                known(findings, (*path, "video"), "video", part.video, spec.videos)
            camera = getattr(part, "camera", None)
            if camera is not None:
                known(findings, (*path, "camera"), "camera", camera, spec.cameras)
            for hider in getattr(part, "hidden_by", ()):
                known(findings, (*path, "hidden_by"), "body", hider, spec.bodies)
            continue
        if isinstance(part, ForcePart):
            _pressed(spec, path, part, findings)
        axes = getattr(part, "axes", "x")
        if not axes or set(axes) - set("xyz"[: spec.dim]) or len(set(axes)) != len(axes):
            findings.add((*path, "axes"), f"expected some of '{'xyz'[: spec.dim]}', each once, got '{axes}'")
        if part.noise is not None:
            noise = _in_si(findings, (*path, "noise"), part.noise, dimension)
            if noise is not None and not noise > 0:
                findings.add((*path, "noise"), f"must be greater than 0, got {part.noise}")
            spec.observe[name] = part.model_copy(update={"noise": noise})
        if part.data is not None and known(findings, (*path, "data"), "data table", part.data, spec.data):
            if part.data in tables:
                _columns(path, part, tables[part.data], dimension, findings)


def _pressed(spec: ScenePart, path: Key, part: ForcePart, findings: Findings) -> None:
    sides = {s: getattr(spec.walls, s) or spec.walls.all for s in SIDES[: 2 * spec.dim]}
    planes = [s for s, w in sides.items() if w is not None and w.type not in (*MIRRORED, "open")]
    if part.collider in sides and part.collider not in planes:
        what = f"the wall '{part.collider}' is mirrored, open or absent; only other walls feel forces"
        findings.add((*path, "collider"), what)
        return
    known(findings, (*path, "collider"), "collider", part.collider, [*spec.colliders, *spec.clamps, *planes])


def _columns(path: Key, part: Any, table: Table, dimension: Dimension, findings: Findings) -> None:
    time = part.time or table.columns[0]
    if part.time is not None and not known(findings, (*path, "time"), "column", time, table.columns):
        return
    if table.dimensions[table.index(time)] != TIME:
        given = table.dimensions[table.index(time)].name
        findings.add((*path, "time"), f"the column '{time}' of '{table.name}' is {given}, not a time")
        return
    clock = table.column(time)
    if not (clock[1:] > clock[:-1]).all():
        findings.add((*path, "data"), f"the times in '{table.name}' must increase, without gaps")
    for column in part.values or [c for c in table.columns if c != time]:
        if known(findings, (*path, "values"), "column", column, table.columns):
            given = table.dimensions[table.index(column)]
            if given != dimension:
                what = f"measures {dimension.label}, but the column '{column}' of '{table.name}' is {given.label}"
                findings.add((*path, "values"), what)


def _stress_table(path: Key, part: TablePart, spec: ScenePart, tables: dict[str, Table], findings: Findings) -> None:
    known(findings, (*path, "material"), "material", part.material, spec.materials)
    if not known(findings, (*path, "data"), "data table", part.data, spec.data) or part.data not in tables:
        return
    table = tables[part.data]
    strain, stress = part.named(table.columns)
    if strain is None or stress is None:
        findings.add((*path, "data"), f"'{table.name}' needs a strain and a stress column")
        return
    timed = False
    for key, column, dimension in (("strain", strain, NUMBER), ("stress", stress, PRESSURE), ("time", part.time, TIME)):
        if column is not None and known(findings, (*path, key), "column", column, table.columns):
            given = table.dimensions[table.index(column)]
            if given != dimension:
                findings.add((*path, key), f"expected {dimension.label}; the column '{column}' is {given.label}")
            timed |= key == "time" and given == dimension
    if timed:
        clock = [t for t in table.column(str(part.time)).tolist() if not math.isnan(t)]
        if clock and clock[0] < 0.0:
            findings.add((*path, "time"), f"'{part.time}' begins at {clock[0]:g} s; the path begins at 0")
        for row, (before, after) in enumerate(itertools.pairwise(clock), start=2):
            if after < before:
                what = f"'{part.time}' must not fall: row {row} is at {after:g} s, the row above at {before:g} s"
                findings.add((*path, "time"), what)
                break


def _fit(spec: ScenePart, materials: dict[str, MaterialSpec], findings: Findings) -> None:
    if spec.fit is not None and spec.fit.learn is not None:
        _learn(spec, materials, findings)
        return
    if spec.states:
        findings.add(("states",), "nothing learns from them; add `fit: {learn: {}}`, or leave `states` out")
    if spec.fit is None:
        return
    for name, part in spec.fit.parameters.items():
        path = ("fit", "parameters", name)
        try:
            if free_network(materials, name) is not None:
                spec.fit.parameters[name] = _network(path, part, findings)
                continue
            number = free_number(spec, materials, name)
        except InputError as error:
            findings.add(path, str(error))
            continue
        spec.fit.parameters[name] = _parameter(path, part, number.dimension, findings)
    measured = [n for n, o in spec.observe.items() if o.data is not None or hasattr(o, "video")]
    if not measured and not spec.tables and not spec.recordings:
        findings.add(("fit",), "there is no record to fit; give an observation a `data` table, or add `tables`")
    early = spec.fit.early_stop
    for name in early.recordings if early is not None else ():
        path, held = ("fit", "early_stop", "recordings"), [*spec.recordings, *spec.tables]
        if known(findings, path, "recording", name, held):
            part = spec.recordings.get(name) or spec.tables[name]
            if part.role != "holdout":
                findings.add(path, f"'{name}' is fitted; give it `role: holdout`")
    if early is not None and early.begin is not None and spec.solver == "none":
        findings.add(("fit", "early_stop", "begin"), "tables have no time; name held-out tests under `recordings`")
    for i, stage in enumerate(spec.fit.stages):
        for recording in stage.recordings:
            known(findings, ("fit", "stages", i, "recordings"), "recording", recording, spec.recordings)


def _learn(spec: ScenePart, materials: dict[str, MaterialSpec], findings: Findings) -> None:
    """A law that is learned needs states, and weights."""
    assert spec.fit is not None and spec.fit.learn is not None
    if spec.solver != "mpm":
        findings.add(("fit", "learn"), f"states are of particles: `solver: mpm`, not `{spec.solver}`")
    if not spec.states:
        findings.add(("fit", "learn"), "there is nothing to learn from; add `states`, from `physim run --states`")
    elif all(part.role == "holdout" for part in spec.states.values()):
        findings.add(("states",), "all are held out; at least one must have `role: fit`")
    for name, part in spec.states.items():
        if part.scene is not None:
            known(findings, ("states", name, "scene"), "shipped scene", part.scene, shipped_names(SCENES))
        if part.recording is not None:
            known(findings, ("states", name, "recording"), "recording", part.recording, spec.recordings)
    part = spec.fit.learn
    for key in sorted(part.model_fields_set & set(GRADIENT_KEYS)):
        users = GRADIENT_KEYS[key]
        if part.method not in users:
            told = " or ".join(f"`method: {u}`" for u in users)
            findings.add(("fit", "learn", key), f"`{part.method}` does not use it; add {told}, or leave it out")
    learnable = [n for n, m in materials.items() if m.learnable]
    name = spec.fit.learn.material
    if name is not None:
        if known(findings, ("fit", "learn", "material"), "material", name, spec.materials) and name not in learnable:
            findings.add(("fit", "learn", "material"), f"'{name}' has no weights; give it `law: neural_energy`")
    elif len(learnable) != 1:
        told = ", ".join(learnable) or "none"
        findings.add(("fit", "learn"), f"name the `material` to learn; those with weights: {told}")


def _parameter(path: Key, part: ParameterPart, dimension: Dimension, findings: Findings) -> ParameterPart:
    start = None if part.start is None else _in_si(findings, (*path, "start"), part.start, dimension)
    bounds, prior = None, part.prior
    if part.bounds is not None:
        low, high = (_in_si(findings, (*path, "bounds", i), b, dimension) for i, b in enumerate(part.bounds))
        bounds = (low, high)
        if low is not None and high is not None and not low < high:
            findings.add((*path, "bounds"), f"the lower bound {part.bounds[0]} is not below the upper {part.bounds[1]}")
        elif start is not None and low is not None and high is not None and not low <= start <= high:
            findings.add((*path, "start"), f"{part.start} is outside the bounds {part.bounds[0]} to {part.bounds[1]}")
    if prior is not None:
        if prior.value is None:
            findings.add((*path, "prior", "value"), "required, and missing")
            return part
        centre = _in_si(findings, (*path, "prior", "value"), prior.value, dimension)
        sd = None if prior.sd is None else _in_si(findings, (*path, "prior", "sd"), prior.sd, dimension)
        prior = prior.model_copy(update={"value": centre, "sd": sd})
    return part.model_copy(update={"start": start, "bounds": bounds, "prior": prior})


def _network(path: Key, part: ParameterPart, findings: Findings) -> ParameterPart:
    """What is said of weights: nothing but the width of their prior."""
    for key in ("start", "bounds", "transform"):
        if getattr(part, key) is not None:
            findings.add((*path, key), "weights start where `network` of the material has them, without bounds")
    prior = part.prior
    if prior is None:
        return part
    if prior.value is not None or prior.factor is not None:
        findings.add((*path, "prior"), "weights have their start as the centre; give `prior: {sd: 3}` alone")
        return part
    sd = _in_si(findings, (*path, "prior", "sd"), prior.sd, NUMBER)
    if sd is not None and not sd > 0:
        findings.add((*path, "prior", "sd"), f"must be above zero, got {prior.sd}")
    return part.model_copy(update={"prior": prior.model_copy(update={"sd": sd})})


def _expectation(spec: ScenePart, materials: dict[str, MaterialSpec], findings: Findings) -> ScenePart:
    part = spec.expect
    if part is None:
        return spec
    dimension = NUMBER
    if part.quantity == "observation" and part.observe is not None:
        numbers = [n for n, o in spec.observe.items() if not hasattr(o, "video")]  # a picture is no number
        if not known(findings, ("expect", "observe"), "observation", part.observe, numbers):
            return spec
        dimension = gauge_dimension(spec.observe[part.observe])
    elif part.quantity == "parameter" and part.parameter is not None:
        try:
            dimension = free_number(spec, materials, part.parameter).dimension
        except InputError as error:
            findings.add(("expect", "parameter"), str(error))
            return spec
    value = _in_si(findings, ("expect", "value"), part.value, dimension)
    relative = isinstance(part.tolerance, str) and part.tolerance.strip().endswith("%")
    tolerance = _in_si(findings, ("expect", "tolerance"), part.tolerance, NUMBER if relative else dimension)
    if value is not None and tolerance is not None:
        tolerance = abs(value) * tolerance if relative else tolerance
    return spec.model_copy(update={"expect": part.model_copy(update={"value": value, "tolerance": tolerance})})


def _in_si(findings: Findings, path: Key, value: Any, dimension: Dimension) -> float | None:
    try:
        return parse(value, dimension)
    except UnitError as error:
        findings.add(path, str(error))
        return None
