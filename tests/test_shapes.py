"""Shapes: exact sizes, signed distances against closed forms, filling with particles, meshes, messages."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import trimesh

from physim.errors import InputError
from physim.shapes import Box, Cylinder, Fill, Mesh, Plane, Polygon, Sphere, distance_field, sample

DATA = Path(os.environ.get("PHYSIM_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
RNG = np.random.default_rng(5)
QUARTER_Z = (0.0, 0.0, np.pi / 2)


def brick(size=(0.2, 0.1, 0.3), at=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents=size)
    mesh.apply_translation(at)
    return mesh


SOLIDS = [
    Box((0.1, 0.2, 0.3), (0.2, 0.4, 0.1)),
    Box((0.1, 0.2, 0.3), (0.2, 0.4, 0.1), rotation=(0.3, -0.2, 0.5)),
    Sphere((0.5, 0.5, 0.5), 0.2),
    Cylinder((0.0, 1.0, 0.0), 0.1, 0.4, "x"),
    Cylinder((0.0, 1.0, 0.0), 0.1, 0.4, (1.0, 2.0, 3.0)),
    Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)], depth=0.5),
    Mesh(brick(at=(0.3, 0.0, 0.0)), translation=(0.1, 0.0, 0.0), rotation=(0.0, 0.4, 0.0)),
]


def ids(shapes):
    return [f"{type(s).__name__}{i}" for i, s in enumerate(shapes)]


# ---------------------------------------------------------------- sizes and distances


def test_sizes_are_the_closed_forms():
    assert Box((0, 0, 0), (1, 2, 3)).volume == 6.0
    assert Box((0, 0), (1, 2)).area == Box((0, 0), (1, 2)).volume == 2.0
    assert np.isclose(Sphere((0, 0, 0), 0.5).volume, np.pi / 6)
    assert np.isclose(Sphere((0, 0), 0.5).area, np.pi / 4)
    assert np.isclose(Cylinder((0, 0, 0), 0.5, 2.0).volume, np.pi / 2)
    assert np.isclose(Polygon([(0, 0), (0, 2), (1, 2), (1, 1), (2, 1), (2, 0)]).area, 3.0)
    assert np.isclose(Mesh(brick()).volume, 0.006)
    assert Box.from_bounds((0, 0), (1, 0.5)).center == (0.5, 0.25, 0.0)


@pytest.mark.parametrize("shape", SOLIDS, ids=ids(SOLIDS))
def test_distance_is_a_distance(shape):
    """|grad d| = 1 almost everywhere, d changes sign at the bounds, and Monte Carlo finds the volume."""
    low, high = shape.bounds
    points = RNG.uniform(low - 0.1, high + 0.1, (40_000, 3))
    d = shape.signed_distance(points)
    share = (d < 0).mean() * np.prod(high - low + 0.2)
    assert np.isclose(share, shape.volume, rtol=0.05)
    step = 1e-6
    some = points[:2000]
    gradient = np.stack(
        [
            (shape.signed_distance(some + step * e) - shape.signed_distance(some - step * e)) / (2 * step)
            for e in np.eye(3)
        ],
        axis=1,
    )
    assert np.median(np.abs(np.linalg.norm(gradient, axis=1) - 1)) < 1e-6
    outside = ((points < low) | (points > high)).any(axis=1)
    assert (d[outside] > 0).all()


def test_distances_against_closed_forms():
    box = Box((1, 0, 0), (2, 2, 2))
    assert np.allclose(box.signed_distance([[1, 0, 0], [3, 0, 0], [3, 2, 0], [3, 2, 1.5]]), [-1, 1, 2**0.5, 1.5])
    turned = Box((0, 0, 0), (4, 2, 2), rotation=QUARTER_Z)
    assert np.allclose(turned.signed_distance([[0, 1.5, 0], [1.5, 0, 0]]), [-0.5, 0.5])
    assert np.allclose(Sphere((0, 0, 1), 0.5).signed_distance([[0, 0, 3], [0, 0, 1]]), [1.5, -0.5])
    cylinder = Cylinder((0, 0, 0), 1.0, 2.0, "x")
    assert np.allclose(cylinder.signed_distance([[0, 0, 0], [2, 0, 0], [0, 3, 0], [2, 2, 0]]), [-1, 1, 2, 2**0.5])
    floor = Plane((0, 1, 0), (0, 2, 0))
    assert np.allclose(floor.signed_distance([[5, 3, 1], [0, -1, 0]]), [2, -2])
    ell = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])
    assert np.allclose(ell.signed_distance([[1.5, 1.5], [0.5, 0.5], [-3, -4]], dim=2), [0.5, -0.5, 5])


def test_mesh_distance_equals_the_box():
    mesh = Mesh(brick(), translation=(0.4, 0.5, 0.6), rotation=(0.1, 0.2, 0.3))
    box = Box((0.4, 0.5, 0.6), (0.2, 0.1, 0.3), rotation=(0.1, 0.2, 0.3))
    points = RNG.uniform(0, 1, (5000, 3))
    assert np.abs(mesh.signed_distance(points) - box.signed_distance(points)).max() < 1e-14


def test_plane_strain_ignores_z():
    disk = Sphere((0, 0, 7), 1.0)
    assert np.allclose(disk.signed_distance([[2, 0, -100], [0, 0, 3]], dim=2), [1, -1])
    assert np.allclose(disk.signed_distance([[2, 0]], dim=2), [1])
    assert disk.measure(2) == disk.area


# ---------------------------------------------------------------- particles


@pytest.mark.parametrize("method", list(Fill))
@pytest.mark.parametrize("shape", SOLIDS, ids=ids(SOLIDS))
def test_volume_is_exact_and_particles_are_inside(shape, method):
    particles = sample(shape, budget=3000, method=method)
    assert 1500 < particles.n <= 3000
    assert np.isclose(particles.vol0.sum(), shape.volume, rtol=1e-12)
    assert shape.signed_distance(particles.x).max() <= 1e-9
    assert particles.x.shape == (particles.n, 3) and (particles.vol0 > 0).all()
    low, high = shape.bounds
    assert np.allclose(particles.x.mean(axis=0), _centroid(shape), atol=0.05 * float((high - low).max()))


def _centroid(shape):
    points = RNG.uniform(*shape.bounds, (40_000, 3))
    return points[shape.signed_distance(points) < 0].mean(axis=0)


def test_lattice_follows_the_grid():
    """Four particles per cell of a box on grid lines: one in the middle of each quarter cell."""
    particles = sample(Box.from_bounds((0, 0), (0.4, 0.2)), per_cell=4, dx=0.1, dim=2)
    assert particles.n == 32 and particles.fill_ratio == pytest.approx(1.0)
    assert np.allclose(np.unique(particles.x[:, 0].round(12)), 0.025 + 0.05 * np.arange(8))
    assert np.allclose(particles.vol0, 0.05**2) and (particles.x[:, 2] == 0).all()


def test_faces_include_the_faces():
    particles = sample(Box((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), counts=(10, 10, 10), method="faces")
    assert particles.n == 1000 and np.allclose(particles.vol0, 0.125 / 1000)
    assert particles.x.min() == 0.25 and particles.x.max() == 0.75
    by_spacing = sample(Box((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), spacing=0.5 / 9, method="faces")
    assert np.array_equal(particles.x, by_spacing.x)


def test_blocks_agree_with_every_distance():
    """Deciding whole blocks at once gives the same set as asking at every lattice point."""
    shape = Sphere((0, 0, 0), 1.0)
    particles = sample(shape, counts=(41, 41, 41))
    axis = -1 + 2 / 41 * (np.arange(41) + 0.5)
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    assert particles.n == int((np.linalg.norm(lattice, axis=1) <= 1).sum())


def test_jitter_repeats_and_covers():
    shape = Sphere((0, 0), 1.0)
    first, second = (sample(shape, budget=500, dim=2, method="jitter") for _ in range(2))
    assert np.array_equal(first.x, second.x)
    other = sample(shape, budget=500, dim=2, method="jitter", rng=np.random.default_rng(1))
    assert not np.array_equal(first.x[:5], other.x[:5])
    assert np.isclose(first.vol0.sum(), np.pi)


def test_turned_box_keeps_its_lattice():
    straight = sample(Box((0, 0, 0), (1, 0.5, 0.5)), spacing=0.1)
    turned = sample(Box((0, 0, 0), (1, 0.5, 0.5), rotation=(0, 0, 0.3)), spacing=0.1)
    assert turned.n == straight.n == 250
    assert np.allclose(np.linalg.norm(turned.x, axis=1), np.linalg.norm(straight.x, axis=1))


def test_budget_messages():
    box = Box((0, 0, 0), (1, 1, 1))
    with pytest.raises(InputError, match=r"needs 1000 particles with spacing 0.1 m.* 500; try") as caught:
        sample(box, spacing=0.1, budget=500)
    advice = float(str(caught.value).split("a spacing of ")[1].split(" m")[0])
    assert sample(box, spacing=advice, budget=500).n <= 500
    with pytest.raises(InputError, match="budget: 0"):
        sample(box, budget=0)
    assert sample(box, budget=1).n == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(Box((0, 0, 0), (1, 1, 1))), "no resolution"),
        (lambda: sample(Box((0, 0, 0), (1, 1, 1)), per_cell=8), "per_cell and dx"),
        (lambda: sample(Box((0, 0, 0), (1, 1, 1)), spacing=0.1, counts=(2, 2, 2)), "not both"),
        (lambda: sample(Box((0, 0, 0), (1, 1, 1)), spacing=-0.1), "above zero"),
        (lambda: sample(Box((0, 0, 0), (1, 1, 1)), spacing=1e-4), "try a spacing of"),
        (lambda: sample(Box((0, 0, 0), (1, 1, 1)), spacing=0.1, method="latice"), "Did you mean 'lattice'"),
        (lambda: sample(Box((0, 0, 0), (1, 1, 1)), spacing=0.1, dim=4), "use 2"),
        (lambda: sample(Plane((0, 0, 0), (0, 1, 0)), spacing=0.1), "unbounded"),
        (lambda: sample(Mesh(brick()), spacing=0.02, dim=2), "three-dimensional"),
        (lambda: sample(Cylinder((0, 0), 1, 1, "x"), spacing=0.1, dim=2), "about the z axis only"),
        (
            lambda: sample(Polygon([(0, 0), (1, 1), (1.01, 1), (0.01, 0)]), spacing=0.3, dim=2),
            "too coarse|no particle",
        ),
        (lambda: Box((0, 0, 0), (1, -1, 1)), "above zero"),
        (lambda: Box((0, np.nan, 0), (1, 1, 1)), "not finite"),
        (lambda: Box((0, 0, 0, 0), (1, 1, 1)), "expected 3 numbers"),
        (lambda: Sphere("here", 1.0), "not a vector"),
        (lambda: Cylinder((0, 0, 0), 1, 1, "w"), "'w' is not allowed"),
        (lambda: Plane((0, 0, 0), (0, 0, 0)), "no direction"),
        (lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "crosses"),
        (lambda: Box((0, 0, 0), (1, 1, 1)).signed_distance(np.zeros((4, 2))), "expected shape"),
    ],
)
def test_messages(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ---------------------------------------------------------------- meshes


def test_curved_mesh_volume_and_distance():
    mesh = Mesh(trimesh.creation.icosphere(subdivisions=4, radius=0.3))
    particles = sample(mesh, budget=20_000)
    assert np.isclose(particles.vol0.sum(), mesh.volume, rtol=1e-12)
    assert particles.fill_ratio == pytest.approx(1.0, abs=0.02)
    points = RNG.uniform(-0.5, 0.5, (2000, 3))
    assert np.abs(mesh.signed_distance(points) - (np.linalg.norm(points, axis=1) - 0.3)).max() < 5e-4


def test_hollow_mesh_has_a_cavity():
    outer, inner = trimesh.creation.box((2, 2, 2)), trimesh.creation.box((1, 1, 1))
    inner.invert()
    mesh = Mesh(trimesh.util.concatenate([outer, inner]))
    assert np.isclose(mesh.volume, 7.0)
    assert np.allclose(mesh.signed_distance([[0, 0, 0], [0.75, 0, 0]]), [0.5, -0.25])


def test_inverted_mesh_is_turned_right():
    mesh = brick()
    mesh.invert()
    assert Mesh(mesh).volume > 0 and Mesh(mesh).signed_distance([[0, 0, 0]])[0] < 0
    flipped = brick()
    flipped.faces[0] = flipped.faces[0][::-1]
    assert np.isclose(Mesh(flipped).volume, 0.006)


def test_open_mesh_names_file_and_edges(tmp_path):
    mesh = brick()
    mesh.update_faces(np.arange(len(mesh.faces)) > 0)
    path = tmp_path / "lid_missing.stl"
    mesh.export(path)
    with pytest.raises(InputError, match=r"lid_missing.stl': not watertight, 3 open edges among 18.*Fill Holes"):
        Mesh(path)


def test_missing_and_unreadable_files(tmp_path):
    brick().export(tmp_path / "beam.stl")
    with pytest.raises(InputError, match=r"no such file.*Did you mean '.*beam.stl'"):
        Mesh(tmp_path / "baem.stl")
    with pytest.raises(InputError, match=r"cannot read '.step'"):
        (tmp_path / "beam.step").write_text("ISO-10303-21;")
        Mesh(tmp_path / "beam.step")
    with pytest.raises(InputError, match=r"broken.ply"):
        (tmp_path / "broken.ply").write_text("ply\nformat ascii 1.0\n")
        Mesh(tmp_path / "broken.ply")
    with pytest.raises(InputError, match=r"no triangles|not a readable"):
        (tmp_path / "empty.stl").write_text("solid nothing\nendsolid nothing\n")
        Mesh(tmp_path / "empty.stl")


def test_wrong_units():
    with pytest.warns(UserWarning, match=r"30 x 30 x 100 m with scale 1. Is the file in millimetres\? Try scale 0.001"):
        Mesh(brick((30, 30, 100)))
    with pytest.raises(InputError, match="Allowed"):
        Mesh(brick((3e4, 3e4, 1e5)))
    with pytest.warns(UserWarning, match="scaled twice"):
        Mesh(brick((30, 30, 100)), scale=1e-6)


def test_measured_beam():
    path = DATA / "beam_mocap" / "beam.stl"
    if not path.exists():
        pytest.skip(f"needs the beam recordings: {path} is absent; set PHYSIM_DATA to the data folder")
    beam = Mesh(path, scale=1e-3)
    assert np.allclose(beam.bounds, [[0, 0, 0], [0.03, 0.03, 0.1]])
    assert np.isclose(beam.volume, 9e-5, rtol=1e-12)
    particles = sample(beam, per_cell=8, dx=0.0075)
    assert particles.n == 8 * 8 * 27 and particles.fill_ratio == pytest.approx(1.0)
    assert np.isclose(particles.vol0.sum(), 9e-5, rtol=1e-12)


# ---------------------------------------------------------------- distance fields


def test_distance_field_of_a_mesh():
    mesh = Mesh(brick(), translation=(0.4, 0.5, 0.6))
    field = distance_field(mesh, spacing=0.01, padding=0.05)
    assert field.values.shape == field.shape and field.values.dtype == np.float64
    nodes = np.array([[3, 4, 5], [0, 0, 0], np.array(field.shape) - 1])
    at = np.array(field.origin) + field.spacing * nodes
    assert np.allclose(field.at(at), mesh.signed_distance(at))
    assert np.allclose(np.array(field.origin) + field.upper, 2 * np.array((0.4, 0.5, 0.6)))
    points = RNG.uniform(*mesh.bounds, (1000, 3))
    assert np.abs(field.at(points) - mesh.signed_distance(points)).max() < 0.5 * field.spacing
    far = np.array([[3.0, 0.5, 0.6]])
    assert field.at(far)[0] == pytest.approx(2.5, abs=0.01)


def test_distance_field_messages():
    with pytest.raises(InputError, match="try a spacing of"):
        distance_field(Sphere((0, 0, 0), 1.0), 1e-4)
    with pytest.raises(InputError, match="unbounded"):
        distance_field(Plane((0, 0, 0), (0, 1, 0)), 0.1)
    with pytest.raises(InputError, match="padding"):
        distance_field(Sphere((0, 0, 0), 1.0), 0.1, padding=-1.0)
