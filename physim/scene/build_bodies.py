"""Bodies of a scene to particles: positions, volumes, velocities, and the checks that need positions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from physim.errors import InputError
from physim.scene.build_seen import seen_shape
from physim.scene.build_space import domain, make_shape
from physim.scene.cameras import read_cameras
from physim.scene.fields import padded
from physim.scene.loader import Scene
from physim.scene.problems import Findings, SceneError
from physim.scene.spec import ScenePart
from physim.scene.spec_space import BodyPart, HullPart, OutlinePart
from physim.scene.stream import stream_velocity
from physim.shapes import Shape, sample
from physim.shapes.sampling import ParticleSet

Array = np.ndarray[Any, np.dtype[np.float64]]

# Particles per cell where the scene does not say.
PER_CELL = {2: 4.0, 3: 8.0}

# Quadratic splines reach one and a half cells: particles farther apart than this, in cells, do not feel each other.
WIDEST = 2.0


@dataclass(frozen=True, eq=False)
class BodyParticles:
    """One body as particles.

    Attributes:
        name: name in the scene.
        material: name of its material.
        shape: its geometry.
        x: positions [m], (n, 3).
        v: velocities [m/s], (n, 3).
        vol0: volumes [m^3], (n,).
        spacing: mean distance between neighbours [m].
        told: how its shape was found, in words, where it was not typed in.
        counts: points of their lattice along each of the shape's own axes.
    """

    name: str
    material: str
    shape: Shape
    x: Array
    v: Array
    vol0: Array
    spacing: float
    told: str = ""
    counts: tuple[int, ...] = ()


def make_bodies(scene: Scene, findings: Findings) -> list[BodyParticles]:
    """Fill every body with particles; problems are noted with their place in the file."""
    spec = scene.spec
    found = []
    seen = any(isinstance(b.shape.shape_part, (OutlinePart, HullPart)) for b in spec.bodies.values())
    cameras = read_cameras(spec, findings) if seen else {}
    for name, part in spec.bodies.items():
        path, told = ("bodies", name, "shape"), ""
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            try:
                given = part.shape.shape_part
                if isinstance(given, (OutlinePart, HullPart)):
                    made = seen_shape(given, scene, cameras)
                    shape, told = made.shape, made.told
                    for doubt in made.doubts:
                        warnings.warn(doubt, UserWarning, stacklevel=1)
                else:
                    shape = make_shape(part.shape)
                particles = _fill(shape, part, spec)
            except SceneError:
                raise
            except InputError as error:
                # What was odd about a mesh, its size above all, is often why it cannot be filled.
                findings.add(path, " ".join([*(str(r.message) for r in remarks), str(error)]))
                continue
        for remark in remarks:
            findings.warn(path, str(remark.message))
        v = np.tile(padded(part.velocity or (0.0, 0.0)), (particles.n, 1))
        if part.spin is not None:
            centre = particles.vol0 @ particles.x / particles.vol0.sum()
            v = v + np.cross(padded(part.spin), particles.x - centre)
        if part.stream:
            low, high = shape.bounds
            v[:, :2] += stream_velocity(part.stream, low, high, torch.as_tensor(particles.x)).numpy()
        own = (particles.vol0, particles.spacing, told, particles.counts)
        body = BodyParticles(name, part.material, shape, particles.x, v, *own)
        if spec.solver == "mpm":
            _inside(spec, body, findings)
            _dense(spec, body, findings)
        found.append(body)
    _apart(spec, found, findings)
    return found


def _fill(shape: Shape, part: BodyPart, spec: ScenePart) -> ParticleSet:
    assert spec.grid is not None
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"dim": spec.dim, "method": part.sampling, "budget": part.budget, "rng": rng}
    if part.counts is not None:
        return sample(shape, counts=part.counts, **options)
    if part.spacing is not None:
        return sample(shape, spacing=part.spacing, **options)
    if part.per_cell is None and part.budget is not None:
        return sample(shape, **options)
    return sample(shape, per_cell=part.per_cell or PER_CELL[spec.dim], dx=spec.grid.dx, **options)


def _inside(spec: ScenePart, body: BodyParticles, findings: Findings) -> None:
    """Note particles outside the domain."""
    assert spec.grid is not None
    low, high = (np.array(c) for c in domain(spec))
    slack = 1e-6 * spec.grid.dx
    axes = [a for a in range(spec.dim)]
    outside = ((body.x[:, axes] < low[axes] - slack) | (body.x[:, axes] > high[axes] + slack)).any(axis=1)
    if not outside.any():
        return
    reach = ", ".join(f"{'xyz'[a]} {body.x[:, a].min():.4g} to {body.x[:, a].max():.4g} m" for a in axes)
    room = ", ".join(f"{'xyz'[a]} {low[a]:.4g} to {high[a]:.4g} m" for a in axes)
    findings.add(
        ("bodies", body.name, "shape"),
        f"{int(outside.sum())} of {len(body.x)} particles lie outside the grid: the body spans {reach}; the grid "
        f"{room}. Move the body, or enlarge grid.origin and grid.upper",
    )


def _dense(spec: ScenePart, body: BodyParticles, findings: Findings) -> None:
    """Note particles so far apart that the grid would tear the body at once."""
    assert spec.grid is not None
    if body.spacing > WIDEST * spec.grid.dx:
        findings.add(
            ("bodies", body.name),
            f"its {len(body.x)} particles are {body.spacing:.3g} m apart and the cells {spec.grid.dx:.3g} m wide: the "
            f"grid sees holes between them. Use a spacing of {0.5 * spec.grid.dx:.3g} m, or leave it out",
        )


def _apart(spec: ScenePart, bodies: list[BodyParticles], findings: Findings) -> None:
    """Note bodies that share space: a particle can have one material only."""
    for i, one in enumerate(bodies):
        for other in bodies[:i]:
            depth = 0.25 * min(one.spacing, other.spacing)
            low, high = other.x.min(axis=0) - other.spacing, other.x.max(axis=0) + other.spacing
            near = np.flatnonzero(((one.x >= low) & (one.x <= high)).all(axis=1))
            if not len(near):
                continue
            inside = other.shape.signed_distance(one.x[near], dim=spec.dim) < -depth
            if inside.any():
                findings.add(
                    ("bodies", one.name),
                    f"two materials on one particle: {int(inside.sum())} particles of '{one.name}' lie inside "
                    f"'{other.name}', the first at {_point(one.x[near][inside][0])}. Move the bodies apart",
                )


def _point(x: Array) -> str:
    return f"[{', '.join(f'{c:.4g}' for c in x)}] m"
