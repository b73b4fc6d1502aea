"""Pictures of particles: true areas, checked gradients, the same bits again, and the gauges that read them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from physim.errors import GradientError, InputError
from physim.observe import splat_maps
from physim.observe.camera import PixelCamera
from physim.observe.cloud import Cloud, surface_rows
from physim.observe.colour import Colour
from physim.observe.cover import cover
from physim.observe.depth import Depth
from physim.observe.framewise import Framewise
from physim.observe.gauge import Gauge, Snapshot
from physim.observe.image_tracks import ImageTracks
from physim.observe.nearest import nearest
from physim.observe.overlap import SoftIoU, soft_iou
from physim.observe.record import Observation
from physim.observe.reduce import jumps, reduce_colour, reduce_depth, reduce_mask
from physim.observe.silhouette import Silhouette
from physim.observe.splat import Splatter
from physim.observe.splat_maps import Sheet
from physim.observe.tracks import Tracks

H = 0.01


def lattice(nx: int, ny: int, nz: int = 1) -> Tensor:
    """A block of unit cells of 1 cm around the origin."""
    axes = [(torch.arange(n, dtype=torch.float64) - 0.5 * (n - 1)) * H for n in (nx, ny, nz)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def turned(x: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return x @ torch.tensor([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]], dtype=x.dtype)


def soft(seed: int = 0, shape: tuple[int, int, int] = (6, 5, 3)) -> Tensor:
    """A block whose particles do not lie on a lattice."""
    x = lattice(*shape)
    return x + 0.15 * H * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def side(width: int = 30, height: int = 24, pixel: float = 0.3 * H, **given) -> PixelCamera:
    return PixelCamera.side_view(pixel, width, height, **given)


def front(width: int = 30, height: int = 24) -> PixelCamera:
    return PixelCamera.look_at((0.03, 0.02, 0.3), (0.0, 0.0, 0.0), width, height, 0.3)


CAMERAS = {"parallel": side(), "pinhole": front()}


class TestSolid:
    @pytest.mark.parametrize("pixels", [1.0, 3.0])
    @pytest.mark.parametrize("angle", [0.0, 0.3])
    def test_a_square_has_its_area_and_is_solid(self, pixels, angle):
        camera = side(80, 80, H / pixels, center=(0.2 * H, -0.1 * H, 0.0))
        found = Splatter(camera, H).coverage(turned(lattice(16, 16), angle))
        true = (16 * pixels) ** 2
        area = float(found.sum())
        assert area == pytest.approx(true, rel=0.01)
        assert abs(area - true) / (64 * pixels) < 0.1  # how far the edge is off on average [px]
        half = round(6 * pixels)
        assert float(found[40 - half : 40 + half, 40 - half : 40 + half].min()) > 0.98
        assert float(found[:3].max()) == 0.0

    def test_a_disc_has_its_area(self):
        x = lattice(40, 40)
        x = x[x.norm(dim=1) < 0.2]
        found = Splatter(side(140, 140, H / 3), H).coverage(x)
        assert float(found.sum()) == pytest.approx(9.0 * len(x), rel=0.01)

    def test_thickness_hardly_shows(self):
        one, many = (Splatter(side(60, 60), H).coverage(lattice(12, 12, n)) for n in (1, 9))
        edge = 4 * 12 / 0.3
        assert abs(float((many - one).sum()) / edge) < 0.13 / 0.3  # an eighth of the particles' spacing
        assert bool((many >= one - 0.01).all())

    @pytest.mark.parametrize("seen", ["turned", "near", "aslant and near"])
    def test_outlines_of_thick_bodies_are_those_of_their_corners(self, seen):
        # Only a few layers reach an outline that is seen aslant or in perspective.
        corners = 6 * H * torch.tensor(list(product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
        x, angle = lattice(12, 12, 12), 2 * math.atan(40 * H / 3 / 0.6)
        camera = side(80, 80, H / 3)
        if seen != "turned":
            eye = (0.0, 0.0, 0.6) if seen == "near" else (0.21, 0.15, 0.54)
            camera = PixelCamera.look_at(eye, (0.0, 0.0, 0.0), 80, 80, angle)
        else:
            tilt = turned(torch.eye(3, dtype=torch.float64), 0.5)[:, [2, 0, 1]]
            x, corners = turned(x @ tilt, 0.7), turned(corners @ tilt, 0.7)
        hull = ConvexHull(camera.project(corners)[0].numpy())
        found = float(Splatter(camera, H).coverage(x).sum())
        assert (
            abs(found - hull.volume) / hull.area < 0.2 * 3
        )  # a fifth of the spacing; `volume` of a plane hull is its area

    def test_a_pinhole_camera_sees_the_same_square(self):
        camera = PixelCamera.look_at((0, 0, 1.0), (0, 0, 0), 80, 80, 2 * math.atan(0.16))
        found = Splatter(camera, H).coverage(lattice(16, 16))
        assert float(found.sum()) == pytest.approx(40.0**2, rel=0.01)
        half = Splatter(camera, H).coverage(lattice(16, 16) - torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        assert float(half.sum()) == pytest.approx(20.0**2, rel=0.01)

    def test_a_stretched_body_has_no_holes(self):
        x = turned(lattice(20, 20) * torch.tensor([1.5, 1 / 1.5, 1.0], dtype=torch.float64), 0.4)
        found = Splatter(side(120, 120, H / 3), H).coverage(x)
        assert float(found.sum()) == pytest.approx(3600.0, rel=0.025)
        assert float(found[50:70, 50:70].min()) > 0.95

    def test_a_particle_comes_in_without_a_jump(self):
        camera = side(20, 20, H)
        splatter = Splatter(camera, H)
        x = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
        series = [float(splatter.coverage(x * d).sum()) for d in np.linspace(12.5 * H, 8 * H, 200)]
        assert series[0] == 0.0 and 0.3 < series[-1] < 1.0  # alone it covers less than among others
        assert np.abs(np.diff(series)).max() < 0.05


class TestGradients:
    def check(self, read, x: Tensor, tolerance: float = 1e-6) -> None:
        """Against central differences along random directions."""
        generator = torch.Generator().manual_seed(1)
        leaf = x.clone().requires_grad_()
        values = read(leaf)
        weights = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        (found,) = torch.autograd.grad((values * weights).sum(), leaf)
        for _ in range(2):
            direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            step = 1e-5 * H
            with torch.no_grad():
                ahead, behind = ((read(x + s * direction) * weights).sum() for s in (step, -step))
            slope = float(ahead - behind) / (2 * step)
            assert float((found * direction).sum()) == pytest.approx(slope, rel=tolerance)

    def gauge(self, gauge: Gauge, x: Tensor, t: float | None = None) -> None:
        values = gauge.read(Snapshot(x, t=t))
        assert values.dtype == torch.float64 and values.shape == (len(gauge.columns),)
        self.check(lambda p: gauge.read(Snapshot(p, t=t)), x)

    @pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
    def test_of_what_a_splatter_draws(self, camera):
        splatter = Splatter(camera, H)
        self.check(splatter.coverage, soft())
        # Averages at the rim of the last bell bend sharply, which the differences feel.
        self.check(lambda x: splatter.depth(x)[0] * splatter.coverage(x), soft(), 1e-5)
        self.check(lambda x: splatter.averages(x, x / H)[0] * splatter.coverage(x), soft(), 1e-5)

    def test_of_spacings_and_poses(self):
        pose = front().world_to_camera
        x = soft()

        def read(shift: Tensor) -> Tensor:
            moved = torch.cat([pose[:3, :3], pose[:3, 3:] + shift.reshape(3, 1)], dim=1)
            matrix = torch.cat([moved, pose[3:]])
            f = front()
            return Splatter(PixelCamera(matrix, f.fx, f.fy, f.cx, f.cy, f.width, f.height), H).coverage(x)

        self.check(read, torch.zeros(3, dtype=torch.float64))

    def test_single_precision_gives_the_same(self):
        weights = torch.randn(24, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found = []
        for dtype in (torch.float32, torch.float64):
            x = soft().to(dtype).requires_grad_()
            picture = Splatter(front(), H).coverage(x)
            assert picture.dtype == dtype
            found.append(torch.autograd.grad((picture * weights).sum(), x)[0].double())
        assert float((found[0] - found[1]).norm() / found[1].norm()) < 1e-5

    def test_of_the_gauges(self):
        x, camera = soft(), front(40, 32)
        body, other = torch.arange(60), torch.arange(60, 90)
        blurred = Silhouette(camera, H, body, size=(20, 16), blur=1.5)
        self.gauge(blurred, x)
        self.gauge(Silhouette(side(), torch.full((90,), H), body, size=(15, 12), hidden_by=other), x)
        self.gauge(Depth(Silhouette(camera, H, size=(20, 16)), 0.5), x)
        colours = torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.gauge(Colour(blurred, colours, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)), x)
        self.gauge(ImageTracks(camera, Tracks.bind(lattice(6, 5, 3), lattice(2, 2, 1))), x)
        masks = reduce_mask(Splatter(camera, H).coverage(x + 0.3 * H), (20, 16), 1.5).reshape(1, -1)
        self.gauge(SoftIoU(blurred, masks, Framewise(torch.zeros(1))), x, t=0.0)
        points = soft(3)[None] + 0.4 * H
        self.gauge(Cloud(points, Framewise(torch.zeros(1)), H, surface=surface_rows(lattice(6, 5, 3), H)), x, t=0.0)

    def test_a_bad_gradient_is_told(self):
        x = soft().requires_grad_()
        with pytest.raises(GradientError, match="of 'u' at row"):
            (Splatter(side(), H).coverage(x) * math.nan).sum().backward()


class TestLaunches:
    def test_batches_are_the_pictures_one_by_one(self):
        frames = torch.stack([soft(seed) for seed in range(3)]).float()
        cameras = (side(), front())
        both = Splatter(cameras, H)
        coverage, (depth, there) = both.coverage(frames), both.depth(frames)
        assert coverage.shape == depth.shape == there.shape == (2, 3, 24, 30)
        for c, camera in enumerate(cameras):
            for f, frame in enumerate(frames):
                one = Splatter(camera, H)
                torch.testing.assert_close(coverage[c, f], one.coverage(frame), rtol=0, atol=1e-5)
                torch.testing.assert_close(depth[c, f], one.depth(frame)[0], rtol=0, atol=1e-6)
        # From the same pixels the same pictures, but for the last bit of exp.
        seen = both.project(frames)
        u, scale = seen.u.flatten(0, 1), seen.scale.flatten()
        whole = cover(u, H * scale, Sheet(6, 24, 30))
        for i in range(6):
            part = slice(90 * i, 90 * i + 90)
            torch.testing.assert_close(
                whole[i], cover(u[part], H * scale[part], Sheet(1, 24, 30))[0], rtol=0, atol=2e-7
            )

    def test_repeats_and_threads_give_the_same_bits(self, monkeypatch):
        monkeypatch.setattr(splat_maps, "WORTH", 0)
        weights = torch.randn(24, 30, generator=torch.Generator().manual_seed(0))
        found = []
        for threads in (1, 1, 2, 3):
            x = soft().float().requires_grad_()
            picture = Splatter(front(), H, threads=threads).coverage(x)
            found.append((picture.detach(), *torch.autograd.grad((picture * weights).sum(), x)))
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))

    def test_an_empty_picture_is_empty(self):
        x = (soft() + torch.tensor([5.0, 0.0, 0.0], dtype=torch.float64)).requires_grad_()
        splatter = Splatter(side(), H)
        picture, (depth, there) = splatter.coverage(x), splatter.depth(x)
        assert not picture.any() and not there.any() and not depth.any()
        (gradient,) = torch.autograd.grad(picture.sum() + depth.sum(), x)
        assert not gradient.any()

    def test_broken_input_is_told(self):
        behind = PixelCamera.look_at((0, 0, -0.3), (0, 0, -1.0), 30, 24, 0.3)
        with pytest.raises(InputError, match="90 of 90 points are behind the camera"):
            Splatter(behind, H).coverage(soft())
        x = soft()
        x[7, 1] = math.nan
        with pytest.raises(InputError, match="non-finite"):
            Splatter(side(), H).coverage(x)
        with pytest.raises(InputError, match="with particles in it"):
            Splatter(side(), H).coverage(x[:0])
        with pytest.raises(InputError, match="spacing"):
            Splatter(side(), 0.0)
        with pytest.raises(InputError, match="one size, got 30 x 24, 20 x 20"):
            Splatter((side(), side(20, 20)), H)
        at_the_lens = PixelCamera.look_at((0, 0, 1e-5), (0, 0, -1.0), 30, 24, 0.3)
        with pytest.raises(InputError, match="right in front of the camera"):
            Splatter(at_the_lens, H).coverage(torch.zeros(1, 3))


class TestWhatIsInFront:
    def test_depth_of_a_flat_face(self):
        for camera, true in ((side(40, 40), -3 * H), (PixelCamera.look_at((0, 0, 0.5), (0, 0, 0), 40, 40, 0.24), 0.47)):
            depth, there = Splatter(camera, H).depth(lattice(12, 12, 6))
            inside = depth[12:28, 12:28]
            assert there[12:28, 12:28].all()
            torch.testing.assert_close(inside, torch.full_like(inside, true), rtol=0, atol=0.02 * H)

    def test_a_particle_far_behind_everything_does_not_matter(self):
        x = lattice(8, 8, 2)
        many = torch.cat([x, x - torch.tensor([0, 0, 10.0], dtype=torch.float64)])
        values = torch.cat([torch.ones(128, 1), torch.zeros(128, 1)])
        average, there = Splatter(side(), H).averages(many, values)
        assert float(average[0][there].min()) == pytest.approx(1.0)

    def test_a_body_behind_another_is_hidden(self):
        back = lattice(8, 8, 2)
        ahead = back + torch.tensor([4 * H, 0.0, 5 * H], dtype=torch.float64)
        x, rows = torch.cat([back, ahead]), torch.arange(128)
        whole, part = (
            Silhouette(side(60, 40), H, rows, hidden_by=o).read(Snapshot(x)).sum() for o in (None, rows + 128)
        )
        first = Silhouette(side(60, 40), H, rows + 128, hidden_by=rows).read(Snapshot(x)).sum()
        assert float(part / whole) == pytest.approx(0.5, abs=0.03)
        assert float(first / whole) == pytest.approx(1.0, abs=0.01)


class TestReduction:
    def test_depth_is_doubtful_where_it_jumps(self):
        depth = torch.full((2, 4, 5), 2.0, dtype=torch.float64)
        depth[0, :, 3:] = 1.5
        depth[1, 1, 1] = 0.0  # a hole, which was not measured
        found = jumps(depth.flatten(1), depth.flatten(1) > 0, (5, 4)).view_as(depth)
        assert found[0].tolist() == [[0.0, 0.0, 0.5, 0.5, 0.0]] * 4 and float(found[1].abs().max()) == 0.0

    def test_masks_and_silhouettes_reduce_alike(self):
        camera = side(64, 48, 0.25 * H)
        x = turned(lattice(9, 7), 0.2)
        mask = Splatter(camera, H).coverage(x)
        for blur, size in ((0.0, (32, 24)), (2.0, (16, 12))):
            gauge = Silhouette(camera, H, size=size, blur=blur)
            seen, measured = gauge.read(Snapshot(x)), reduce_mask(mask, size, blur)
            assert float(seen.sum()) == pytest.approx(float(measured.sum()), rel=0.02)
            assert float((seen - measured).abs().max()) < 0.2
            assert float(soft_iou(seen, measured)) > 0.98
        stack = reduce_mask((mask > 0.5).to(torch.uint8).numpy() * np.uint8(255), (7, 5))
        torch.testing.assert_close(stack, reduce_mask(mask > 0.5, (7, 5)))
        with pytest.raises(InputError, match=r"from 0 to 1; got torch\.float32, 0 to 255"):
            reduce_mask(255.0 * (mask > 0.5), (7, 5))
        with pytest.raises(InputError, match="blur"):
            Silhouette(camera, H, blur=-1.0)

    def test_depth_images_and_colours(self):
        depth = np.full((4, 6), 2.0)
        depth[:2, :2] = np.nan
        depth[0, 5] = 0.0
        values, valid = reduce_depth(depth, (3, 2))
        assert valid.tolist() == [False, True, True, True, True, True]
        assert values[valid].tolist() == pytest.approx([2.0] * 5)
        mask = np.zeros((4, 6), dtype=bool)
        mask[:, 3:] = True
        values, valid = reduce_depth(depth, (3, 2), mask=mask, background=5.0)
        assert valid.all() and values.tolist() == pytest.approx([5.0, 3.5, 2.0, 5.0, 3.5, 2.0])
        with pytest.raises(InputError, match="background"):
            reduce_depth(depth, (3, 2), mask=mask)
        picture = np.zeros((4, 6, 3), dtype=np.uint8)
        picture[..., 1] = 255
        assert reduce_colour(picture, (2, 1)).tolist() == [0.0, 1.0, 0.0] * 2

    def test_the_gauges_read_what_is_there(self):
        x, camera = lattice(12, 12, 4), side(30, 30, 0.5 * H)
        outline = Silhouette(camera, H, size=(15, 15))
        depth = Depth(outline, 1.0).read(Snapshot(x)).reshape(15, 15)
        assert float(depth[7, 7]) == pytest.approx(-2 * H, abs=0.03 * H) and float(depth[0, 0]) == 1.0
        grey = torch.tensor([0.2, 0.2, 0.2], dtype=torch.float64)
        red = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(len(x), 3)
        colours = Colour(outline, red, grey).read(Snapshot(x)).reshape(15, 15, 3)
        assert colours[7, 7].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=0.01)
        assert colours[0, 0].tolist() == pytest.approx([0.2] * 3)
        marker = Tracks.bind(x, torch.tensor([[H, 2 * H, 0.0]], dtype=torch.float64), names=("tip",))
        track = ImageTracks(camera, marker)
        assert track.columns == ("tip.u", "tip.v") and track.unit == "px"
        assert track.read(Snapshot(x)).tolist() == pytest.approx([14.5 + 2, 14.5 - 4])


class TestClouds:
    def test_nearest_is_that_of_all_distances(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(500, 3, generator=generator, dtype=torch.float64) + 100.0
        points = torch.rand(80, 3, generator=generator, dtype=torch.float64) * 3 + 99.0
        assert torch.equal(nearest(points, x, 0.05), torch.cdist(points, x).argmin(1))

    def test_the_surface_is_found(self):
        rows = surface_rows(lattice(7, 8, 9), H)
        assert len(rows) == 7 * 8 * 9 - 5 * 6 * 7

    def cloud(self, count: int, seed: int) -> Tensor:
        """Points on the surface of `lattice(12, 12, 12)`."""
        generator = torch.Generator().manual_seed(seed)
        points = (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5) * 12 * H
        axis = torch.randint(3, (count,), generator=generator)
        sign = torch.randint(2, (count,), generator=generator) * 2.0 - 1.0
        points[torch.arange(count), axis] = 6 * H * sign.double()
        return points

    def test_a_match_is_zero_on_average_both_ways(self):
        x = lattice(12, 12, 12)
        cloud = Cloud(self.cloud(2000, 0)[None], Framewise(torch.zeros(1)), H, surface=surface_rows(x, H))
        found = cloud.read(Snapshot(x, t=0.0))
        assert abs(float(found[:2000].mean())) < 0.02 * H and float(found[:2000].std()) < 0.12 * H
        assert abs(float(found[2000:].mean())) < 0.1 * H
        wider = cloud.read(Snapshot(1.5 * x, t=0.0))
        assert float(wider[2000:].mean()) > 0.5 * H

    def test_clouds_of_frames_meet_an_observation(self):
        x, speed = lattice(12, 12, 12), torch.tensor([0.7, 0.0, 0.0], dtype=torch.float64)
        times = torch.tensor([0.013, 0.05, 0.081, 0.12], dtype=torch.float64)
        clouds = torch.full((4, 300, 3), math.nan, dtype=torch.float64)
        for m, t in enumerate(times):
            count = 300 - 40 * m
            clouds[m, :count] = self.cloud(count, m) + t * speed
        gauge = Cloud(clouds, Framewise(times, slots=3), H)
        assert len(gauge.columns) == 900
        values, valid = gauge.record
        assert valid.sum(1).tolist() == [300, 260, 220, 180]
        observed = Observation("cloud", gauge, times, values, torch.tensor(H, dtype=torch.float64), valid, order=1)
        frames = torch.linspace(0.0, 0.13, 27, dtype=torch.float64)
        series = torch.stack([gauge.read(Snapshot(x + t * speed, t=float(t))) for t in frames])
        residuals = observed.compare(frames, series).residuals()
        for m in range(4):
            assert abs(float(residuals[m][valid[m]].mean())) < 0.05
            assert float(residuals[m][valid[m]].abs().max()) < 0.6
        with pytest.raises(InputError, match="time of the snapshot"):
            gauge.read(Snapshot(x))

    def test_overlap(self):
        camera, x = side(40, 30), turned(lattice(7, 6), 0.3)
        times = torch.tensor([0.0, 0.1], dtype=torch.float64)
        outline = Silhouette(camera, H)
        masks = torch.stack([outline.read(Snapshot(x + d)) for d in (0.0, 0.4 * H)])
        gauge = SoftIoU(outline, masks, Framewise(times, slots=2))
        found = gauge.read(Snapshot(x, t=0.0)).reshape(2, -1).square().sum(1)
        expected = 1.0 - soft_iou(masks[0], masks)
        torch.testing.assert_close(found, expected)
        assert float(expected[0]) == 0.0 and 0.05 < float(expected[1]) < 0.5
        values, valid = gauge.record
        assert values.shape == valid.shape == (2, len(gauge.columns)) and valid.sum(1).tolist() == [1200, 1200]
        empty = torch.zeros(4, dtype=torch.float64)
        assert float(soft_iou(empty, empty)) == 1.0
