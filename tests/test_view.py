"""Pictures, videos, diagrams and exports: right sizes, right content, whole files, clear messages."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from physim.errors import InputError
from physim.shapes import Box, Cylinder, Mesh, Plane, Polygon, Sphere, sample
from physim.view import (
    Backend,
    Camera,
    Curve,
    Mark,
    Obstacle,
    OffscreenError,
    Recording,
    Stage,
    StretchTest,
    color_by,
    fit_camera,
    plot_curves,
    plot_stress_stretch,
    render_frames,
    render_movie,
    render_picture,
    tile_images,
    track,
    write_mp4,
    write_ply,
    write_png,
    write_vtk,
)
from physim.view.overlay import format_length, nice_length
from physim.view.surfaces import surface_of

SMALL = (192, 144)
BODY = sample(Box((0.5, 0.3, 0.5), (0.3, 0.3, 0.3)), spacing=0.05)
AROUND = np.array([[-1.0, -1.0, -1.0], [2.0, 2.0, 2.0]])


def recording(count: int = 3) -> Recording:
    drop = np.array([0.0, -0.05, 0.0])
    frames = np.stack([BODY.x + k * drop for k in range(count)])
    speed = np.linspace(0, 1, count)[:, None] + BODY.x[:, 0]
    kind = (BODY.x[:, 0] > 0.5).astype(int)
    return Recording(frames, 0.1 * np.arange(count), {"speed": speed, "material": kind}, spacing=BODY.spacing)


@pytest.fixture(scope="module")
def vtk() -> Backend:
    """VTK, where it can draw without a display."""
    try:
        render_frames(Recording(BODY.x), size=SMALL, backend=Backend.PYVISTA)
    except OffscreenError as error:
        pytest.skip(f"no OpenGL for off-screen pictures on this machine: {error}")
    return Backend.PYVISTA


@pytest.fixture(params=[Backend.PYVISTA, Backend.MATPLOTLIB], ids=["pyvista", "matplotlib"])
def backend(request) -> Backend:
    return request.getfixturevalue("vtk") if request.param is Backend.PYVISTA else request.param


def inked(image: np.ndarray) -> np.ndarray:
    """Pixels of saturated colour: particles, not paper, ground or text."""
    return np.ptp(image.astype(int), axis=2) > 60


# ---------------------------------------------------------------- pictures


def test_particles_land_where_the_camera_says(backend):
    """The coloured pixels of a picture surround the projections of the particles, in 3D and in 2D."""
    for dim, points in ((3, BODY.x), (2, sample(Box((1.0, 2.0), (0.4, 0.2)), spacing=0.02, dim=2).x)):
        shown = Recording(points)
        camera = fit_camera(shown.bounds, dim=dim, aspect=SMALL[0] / SMALL[1])
        (image,) = render_frames(shown, camera=camera, size=SMALL, backend=backend, captions=False, color="#2f7fc1")
        assert image.shape == (SMALL[1], SMALL[0], 3) and image.dtype == np.uint8
        rows, columns = np.nonzero(inked(image))
        at, scale, _ = camera.project(points, SMALL)
        slack = 1.2 * float((scale * (shown.spacing or 0)).max()) + 2
        assert abs(columns.min() - at[:, 0].min()) < slack and abs(columns.max() - at[:, 0].max()) < slack
        assert abs(SMALL[1] - rows.max() - at[:, 1].min()) < slack
        assert abs(SMALL[1] - rows.min() - at[:, 1].max()) < slack


def test_frames_move_with_the_particles(backend):
    images = render_frames(recording(), Stage((0, 0, 0), (1, 1, 1)), size=SMALL, backend=backend, color="#2f7fc1")
    middles = [np.nonzero(inked(image))[0].mean() for image in images]
    assert len(images) == 3 and middles[0] < middles[1] < middles[2]


def test_colliders_and_their_poses(backend):
    poses = np.stack([np.eye(4)] * 2)
    poses[1, 0, 3] = 0.4
    stage = Stage(
        (0, 0, 0),
        (1, 1, 1),
        obstacles=[
            Obstacle(Sphere((0.2, 0.6, 0.8), 0.1), poses=poses, color="#ff0000"),
            Obstacle(Plane((0, 0, 0), (0, 1, 0)), opacity=0.3),
            Obstacle(Polygon([(0.7, 0), (0.9, 0), (0.7, 0.2)], depth=0.1, z=0.1)),
        ],
    )
    shown = Recording(np.stack([BODY.x] * 2), spacing=BODY.spacing)
    images = render_frames(shown, stage, size=SMALL, backend=backend, color="#808080", captions=False)
    red = [np.nonzero(image[..., 0].astype(int) - image[..., 1] > 40)[1].mean() for image in images]
    assert red[1] > red[0] + 10


def test_plane_strain_colliders(backend):
    points = sample(Box((0.5, 0.5), (0.3, 0.3)), spacing=0.03, dim=2).x
    obstacles = [
        Obstacle(Sphere((0.2, 0.2), 0.1), color="#ff0000"),
        Obstacle(Plane((0, 0.05), (0, 1))),
        Obstacle(Plane((0, -100), (0, 1))),
        Obstacle(Box((0.8, 0.2), (0.1, 0.1), rotation=(0, 0, 0.4))),
    ]
    (image,) = render_frames(
        Recording(points),
        Stage((0, 0), (1, 1), obstacles=obstacles),
        size=SMALL,
        backend=backend,
        color="#808080",
    )
    red = image[..., 0].astype(int) - image[..., 1] > 100
    wide = np.ptp(np.nonzero(red)[1]) + 1
    assert red.sum() == pytest.approx(np.pi / 4 * wide**2, rel=0.15)  # a disk seen face-on


def test_captions_change_only_the_margin(vtk):
    bare, full = (
        render_frames(recording(), size=SMALL, captions=c, backend=vtk, frames=[1], color="speed")[0] for c in (0, 1)
    )
    changed = np.nonzero((bare != full).any(axis=2))
    assert len(changed[0]) > 50 and (full[40:100, 60:130] == bare[40:100, 60:130]).all()


def test_picture_file(tmp_path, backend):
    from PIL import Image

    path = render_picture(BODY.x, tmp_path / "sub" / "a.png", size=SMALL, backend=backend, title="jelly")
    with Image.open(path) as image:
        assert image.size == SMALL and image.format == "PNG"
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_falls_back_with_a_message(monkeypatch):
    def broken(**options):
        raise OffscreenError("VTK cannot draw off-screen here (no OpenGL).")

    monkeypatch.setattr("physim.view.render.PainterPyVista", broken)
    with pytest.warns(UserWarning, match=r"no OpenGL.*matplotlib instead.*apt install libgl1"):
        (image,) = render_frames(Recording(BODY.x), size=SMALL)
    assert inked(image).sum() > 100
    with pytest.raises(OffscreenError):
        render_frames(Recording(BODY.x), size=SMALL, backend=Backend.PYVISTA)


@pytest.mark.parametrize("up", [(0, 1, 0), (0, 0, 1), (1, 0, 0), (0, -1, 0), (0.3, 0.4, -0.5)])
@pytest.mark.parametrize("dim", [2, 3])
def test_default_camera_shows_everything(up, dim):
    bounds = np.array([[1.0, -2.0, 0.5], [3.0, -1.8, 0.9]])
    corners = np.array([[x, y, z] for x in bounds[:, 0] for y in bounds[:, 1] for z in bounds[:, 2]])
    at, scale, depth = fit_camera(bounds, up=up, dim=dim, aspect=2.0).project(corners, (200, 100))
    assert (at > [15, 5]).all() and (at < [185, 95]).all() and (depth > 0).all() and (scale > 0).all()


SURFACES = [
    Box((0.1, 0.2, 0.3), (0.2, 0.4, 0.1), rotation=(0.3, -0.2, 0.5)),
    Sphere((0.5, 0.5, 0.5), 0.2),
    Cylinder((0.0, 1.0, 0.0), 0.1, 0.4, (1.0, 2.0, 3.0)),
    Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)], depth=0.5),
    Plane((0, 0.2, 0), (1, 2, 0)),
]


@pytest.mark.parametrize("shape", SURFACES, ids=lambda s: type(s).__name__)
def test_drawn_surfaces_lie_on_the_shape(shape):
    surface = surface_of(shape, AROUND)
    assert np.abs(shape.signed_distance(surface.vertices)).max() < 1e-9
    assert all(len(face) >= 3 for face in surface.faces)


def test_drawn_mesh_is_in_place():
    import trimesh

    mesh = Mesh(trimesh.creation.box((0.2, 0.1, 0.3)), translation=(1, 2, 3), rotation=(0, 0, 0.3))
    assert np.abs(mesh.signed_distance(surface_of(mesh, AROUND).vertices)).max() < 1e-12


# ---------------------------------------------------------------- colours and recordings


def test_colours_follow_values():
    shown = recording()
    by_kind = color_by(shown, None)
    assert by_kind.name == "material" and by_kind.legend is not None and len(by_kind.legend.entries) == 2
    assert len(np.unique(by_kind.of(0), axis=0)) == 2
    speed = color_by(shown, "speed", limits=(0.0, 2.0))
    assert speed.legend is not None and speed.legend.label == "speed [m/s]" and speed.legend.high == 2.0
    stress = color_by(Recording(BODY.x, scalars={"von_mises": 3e4 * BODY.x[:, 0]}), "von_mises")
    assert stress.legend is not None and stress.legend.label == "von Mises stress [kPa]"
    assert 10 < stress.legend.high < 30
    same = color_by(Recording(BODY.x, scalars={"J": np.ones(BODY.n)}), "J").of(0)
    assert (same == same[0]).all() and same[0].min() > 200  # the middle of a diverging map is pale
    named = Recording(BODY.x, scalars={"material": np.arange(BODY.n) % 2}, labels={"material": "jelly, sand"})
    assert [e[0] for e in color_by(named, None).legend.entries] == ["jelly", "sand"]
    with pytest.raises(InputError, match="Did you mean 'speed'"):
        color_by(shown, "sped")


def test_recording_of_tensors_and_playback():
    import torch

    x = torch.as_tensor(BODY.x, dtype=torch.float32).requires_grad_()
    shown = Recording(torch.stack([x] * 11), [0.01 * k for k in range(11)])
    assert shown.frames.dtype == np.float64
    assert shown.spacing == pytest.approx(0.05, rel=1e-3) and not shown.planar
    assert shown.at_rate(50) == [0, 2, 4, 6, 8, 10]
    assert shown.at_rate(200) == sorted(shown.at_rate(200)) and len(shown.at_rate(200)) == 21
    assert len(shown.at_rate(100, playback=0.5)) == 21


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: Recording(np.zeros((3, 4, 5))), "expected shape"),
        (lambda p: Recording(np.full((4, 3), np.nan)), "non-finite"),
        (lambda p: Recording(np.zeros((2, 4, 3)), [0.0]), "1 times for 2 frames"),
        (lambda p: Recording(np.zeros((2, 4, 3)), scalars={"speed": np.zeros(3)}), "scalar 'speed'"),
        (lambda p: Stage((0, 0, 0)), "go together"),
        (lambda p: Stage(up=(0, 0, 0)), "zero vector"),
        (lambda p: Camera((0, 1, 0), (0, 0, 0), (0, 1, 0)), "one line"),
        (lambda p: render_frames(Recording(BODY.x), size=(0, 5)), "picture size"),
        (lambda p: render_frames(Recording(BODY.x), frames=[7]), "frame 7 does not exist"),
        (lambda p: write_png(p / "a.png", np.zeros((4, 4))), "uint8"),
        (lambda p: write_mp4(p / "a.avi", []), r"\.mp4"),
        (lambda p: write_mp4(p / "a.mp4", []), "no frames"),
        (lambda p: write_mp4(p / "a.mp4", [np.zeros((4, 4, 3), np.uint8)], fps=0), "fps"),
        (
            lambda p: write_mp4(p / "a.mp4", [np.zeros((16, s, 3), np.uint8) for s in (16, 18)]),
            "differ in size",
        ),
        (lambda p: tile_images([], 2), "at least one"),
        (lambda p: plot_curves([]), "no curves"),
        (lambda p: plot_curves([Curve([1, 2], [1], "a")]), "2 abscissae for 1"),
        (lambda p: plot_curves([Curve([1, 2], [1, np.inf], "a")]), "non-finite"),
        (lambda p: plot_curves([Curve([1], [1])], p / "a.bmp"), r"\.svg"),
        (lambda p: write_vtk(p / "a.vtp", recording()), "holds one frame"),
        (lambda p: write_vtk(p / "a.xyz", recording()), "must end in"),
        (lambda p: write_ply(p / "a.ply", BODY.x, x=BODY.x[:, 0]), "cannot be used"),
    ],
)
def test_messages(call, message, tmp_path):
    with pytest.raises(InputError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())  # nothing half written


# ---------------------------------------------------------------- files


def test_video_holds_the_frames(tmp_path):
    import av

    frames = [np.full((46, 65, 3), (0, 60 * k, 200), np.uint8) for k in range(4)]
    path = write_mp4(tmp_path / "a.mp4", iter(frames), fps=12.5, total=4)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 12.5
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 4 and decoded[0].shape == (46, 66, 3)
    for frame, seen in zip(frames, decoded, strict=True):
        assert np.abs(seen[:, :65].astype(int) - frame).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_failure_keeps_the_old_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("solver stopped")

    with pytest.raises(RuntimeError, match="solver stopped"):
        write_mp4(path, frames())
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_movie_in_real_time(tmp_path, vtk):
    import av

    path = render_movie(recording(), tmp_path / "m.mp4", fps=20, playback=1.0, size=SMALL, backend=vtk)
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_vtk_series_reads_back(tmp_path):
    import pyvista as pv

    shown = recording()
    path = write_vtk(tmp_path / "run.pvd", shown)
    reader = pv.get_reader(path)
    assert np.allclose(reader.time_values, shown.times)
    reader.set_active_time_value(shown.times[2])
    block = reader.read()[0]
    assert np.allclose(block.points, shown.frames[2])
    assert np.allclose(block.point_data["speed"], shown.scalars["speed"][2])
    for name in ("one.vtp", "one.vtu"):
        cloud = pv.read(write_vtk(tmp_path / name, Recording(BODY.x)))
        assert cloud.n_points == cloud.n_cells == BODY.n


def test_ply_reads_back(tmp_path):
    import trimesh

    path = write_ply(tmp_path / "a.ply", BODY.x, color="speed", speed=BODY.x[:, 0])
    cloud = trimesh.load(path)
    assert np.allclose(cloud.vertices, BODY.x, atol=1e-7)
    assert cloud.colors.shape == (BODY.n, 4) and len(np.unique(cloud.colors, axis=0)) > 3
    assert np.allclose(cloud.metadata["_ply_raw"]["vertex"]["data"]["speed"].ravel(), BODY.x[:, 0])


def test_diagrams(tmp_path):
    import matplotlib

    x = np.linspace(1, 3, 20)
    before = dict(matplotlib.rcParams)
    curves = [
        Curve(x, x**2, "measured", Mark.POINTS, color=0),
        Curve(x, x**2, "model", band=np.stack([x**2 - 1, x**2 + 1]), color=0),
        Curve(x, x, mark=Mark.DASHED, color="#000000"),
    ]
    figure = plot_curves(curves, tmp_path / "a.png", xlabel="t [s]", ylabel="u [mm]", title="tip", log="y")
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["measured", "model"]
    assert (tmp_path / "a.png").stat().st_size > 5000
    tests = [StretchTest("uniaxial", x, 4e5 * x, model=4e5 * x), StretchTest("shear", x, model=1e5 * x)]
    figure = plot_stress_stretch(tests, tmp_path / "b.svg", title="rubber")
    assert figure.axes[0].get_ylabel() == "nominal stress [MPa]"
    assert figure.axes[0].lines[0].get_ydata()[-1] == pytest.approx(1.2)
    assert dict(matplotlib.rcParams) == before and "<svg" in (tmp_path / "b.svg").read_text()


def test_tiles():
    tiles = tile_images([np.full((4, 6, 3), v, np.uint8) for v in (0, 50, 100)], columns=2, gap=2)
    assert tiles.shape == (10, 14, 3) and tiles[0, 8, 0] == 50 and tiles[6, 0, 0] == 100 and tiles[9, 13, 0] == 255


def test_progress_passes_items_through(monkeypatch):
    monkeypatch.setattr("physim.view.progress._PATIENCE", -1.0)
    assert list(track(range(5), "counting")) == list(range(5))
    assert list(track(iter("ab"), "letters", show=False)) == ["a", "b"]


def test_lengths_read_well():
    assert [nice_length(v) for v in (0.7, 1.0, 0.013, 2.4, 99.0)] == pytest.approx([0.5, 1, 0.01, 2, 50])
    assert [format_length(v) for v in (2.0, 0.05, 0.002, 1e-5)] == ["2 m", "5 cm", "2 mm", "10 um"]


def test_import_is_light():
    """`import physim.view` loads no drawing library."""
    heavy = "[m for m in ('pyvista', 'vtkmodules', 'matplotlib', 'av', 'trimesh', 'rich', 'PIL') if m in sys.modules]"
    code = f"import sys, physim.view, physim.shapes; print({heavy})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
