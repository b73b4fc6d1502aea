from __future__ import annotations

import math

import pytest
import torch

from physim.errors import InputError
from physim.observe.front import Front, soft_quantile
from physim.observe.gauge import Snapshot, axis_indices, unit_vector
from physim.observe.gauges import Coordinate, Force, Mean, Particles, Spread, volume_share
from physim.observe.interpolate import interpolation_matrix
from physim.observe.observer import reader, split
from physim.observe.record import Observation
from physim.observe.robust import huber_residual
from physim.observe.tracks import Tracks


def block(nx=8, ny=5, nz=5, h=0.01) -> torch.Tensor:
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) * h for n in (nx, ny, nz)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def affine(seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, generator=g, dtype=torch.float64), torch.randn(3, generator=g, dtype=torch.float64)


def straight(axis=0) -> Coordinate:
    return Coordinate(torch.eye(3, dtype=torch.float64)[axis], torch.zeros(3, dtype=torch.float64))


class TestTracks:
    def test_affine_motion_carries_markers_exactly_also_outside(self):
        x0 = block()
        points = torch.tensor([[0.04, 0.025, 0.025], [0.09, 0.03, 0.02], [0.04, 0.06, -0.01]], dtype=torch.float64)
        tracks = Tracks.bind(x0, points)
        A, b = affine()
        moved = tracks.read(Snapshot(x0 @ A.T + b)).reshape(-1, 3)
        torch.testing.assert_close(moved, points @ A.T + b, rtol=0, atol=1e-10)

    def test_smooth_motion_is_second_order(self):
        errors = []
        for n in (1, 2):
            x0 = block(8 * n, 5 * n, 5 * n, 0.01 / n)
            p = torch.tensor([[0.083, 0.026, 0.024]], dtype=torch.float64)
            bend = lambda q: torch.stack([q[:, 0], q[:, 1] + 5 * q[:, 0] ** 2, q[:, 2]], 1)  # noqa: E731
            errors.append(float((Tracks.bind(x0, p).positions(bend(x0)) - bend(p)).norm()))
        assert errors[1] < 0.4 * errors[0] < 0.001

    def test_plane_body(self):
        x0 = block(8, 5, 1)
        p = torch.tensor([[0.09, 0.02, 0.005]], dtype=torch.float64)
        A, b = affine()
        A[2], A[:, 2] = 0.0, 0.0
        A[2, 2] = 1.0
        torch.testing.assert_close(Tracks.bind(x0, p).positions(x0 @ A.T + b), p @ A.T + b, rtol=0, atol=1e-10)
        with pytest.raises(InputError, match="one plane"):
            Tracks.bind(x0, p + torch.tensor([0.0, 0.0, 0.01]))

    def test_displacement_axes_names_and_gradient(self):
        x0 = block()
        p = torch.tensor([[0.09, 0.02, 0.02]], dtype=torch.float64)
        tracks = Tracks.bind(x0, p, axes=axis_indices("xz"), displacement=True, names=("tip",))
        x = x0.clone().requires_grad_()
        value = tracks.read(Snapshot(x))
        assert tracks.columns == ("tip.x", "tip.z")
        assert value.abs().max() < 1e-12
        value[1].backward()
        assert float(x.grad[:, 2].sum()) == pytest.approx(1.0) and float(x.grad[:, :2].abs().max()) == 0.0

    def test_mean_of_markers(self):
        x0 = block()
        p = torch.tensor([[0.09, 0.02, 0.02], [0.09, 0.04, 0.03]], dtype=torch.float64)
        tracks = Tracks.bind(x0, p, axes=(1,), displacement=True, mean=True)
        A, b = affine()
        moved = tracks.read(Snapshot(x0 @ A.T + b))
        assert tracks.columns == ("y",)
        assert moved.tolist() == pytest.approx([float(((p @ A.T + b) - p)[:, 1].mean())])

    def test_out_of_reach(self):
        with pytest.raises(InputError, match=r"marker 'tip'.*away"):
            Tracks.bind(block(), torch.tensor([[9.0, 0.02, 0.02]]), names=("tip",))
        with pytest.raises(InputError, match="at least two"):
            Tracks.bind(block(), torch.zeros(1, 3), candidates=torch.tensor([0]))


class TestGauges:
    def test_particles(self):
        x0 = block()
        gauge = Particles(torch.tensor([0, 3]), (2, 0), reference=x0[[0, 3]])
        shifted = x0 + torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        assert gauge.read(Snapshot(shifted)).tolist() == pytest.approx([3.0, 1.0, 3.0, 1.0])
        assert gauge.columns == ("0z", "0x", "3z", "3x")

    def test_mean_weighs_by_volume(self):
        x = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])
        share = volume_share(torch.tensor([1.0, 3.0]), torch.arange(2))
        assert Mean(torch.arange(2), share, straight(), zero=0.25).read(Snapshot(x)).item() == pytest.approx(0.5)
        with pytest.raises(InputError, match="no particle"):
            volume_share(torch.ones(2), torch.arange(0))

    def test_spread_of_bar_and_disc(self):
        g = torch.Generator().manual_seed(1)
        r = torch.rand(40000, generator=g, dtype=torch.float64).sqrt()
        a = 2 * math.pi * torch.rand(40000, generator=g, dtype=torch.float64)
        x = torch.stack([0.3 * r * a.cos() + 5, r * 0, 0.3 * r * a.sin()], 1)
        every = torch.arange(len(x))
        share = volume_share(torch.ones(len(x)), every)
        eye = torch.eye(3, dtype=torch.float64)
        assert Spread(every, share, eye[[0, 2]]).read(Snapshot(x)).item() == pytest.approx(0.3, rel=0.01)
        bar = torch.linspace(-1, 1, 4001, dtype=torch.float64)[:, None] * eye[:1]
        share = volume_share(torch.ones(4001), torch.arange(4001))
        assert Spread(torch.arange(4001), share, eye[:1]).read(Snapshot(bar)).item() == pytest.approx(1.0, rel=1e-3)

    def test_radial_coordinate(self):
        c = Coordinate(unit_vector([0, 2, 0]), torch.tensor([1.0, 0, 0], dtype=torch.float64), radial=True)
        x = torch.tensor([[1.0, 7, 0], [4.0, -2, 4]], dtype=torch.float64, requires_grad=True)
        c.of(x).sum().backward()
        assert c.of(x).tolist() == pytest.approx([0.0, 5.0])
        assert torch.isfinite(x.grad).all()

    def test_force(self):
        snapshot = Snapshot(block(), torch.tensor([[0.0, 0, 0], [1.0, 2.0, 3.0]]))
        assert Force(1, unit_vector([0, 1, 0])).read(snapshot).item() == 2.0
        with pytest.raises(InputError, match="records none"):
            Force(1, unit_vector([0, 1, 0])).read(Snapshot(block()))

    def test_names(self):
        assert axis_indices("xz") == (0, 2)
        for bad in ("", "xx", "w"):
            with pytest.raises(InputError):
                axis_indices(bad)
        with pytest.raises(InputError):
            unit_vector([0, 0, 0])


class TestFront:
    def test_tends_to_the_maximum_and_ignores_strays(self):
        x = block(100, 10, 1, 0.01)
        every = torch.arange(len(x))
        share = volume_share(torch.ones(len(x)), every)
        front = Front(every, share, straight(), width=0.005, fraction=0.005)
        assert front.read(Snapshot(x)).item() == pytest.approx(1.0, abs=0.006)
        x[0] = torch.tensor([7.0, 0.0, 0.0])
        assert front.read(Snapshot(x)).item() == pytest.approx(1.0, abs=0.01)

    def test_gradient(self):
        s = torch.rand(50, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
        share = torch.full((50,), 0.02, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda q: soft_quantile(q, share, 0.05, 0.1), (s,), eps=1e-5, atol=1e-6)
        (g,) = torch.autograd.grad(soft_quantile(s, share, 0.05, 0.1), s)
        assert float(g.sum()) == pytest.approx(1.0)


class TestInterpolation:
    @pytest.mark.parametrize("order", [1, 3])
    def test_exact_for_its_degree(self, order):
        frames = torch.linspace(0, 1, 11, dtype=torch.float64)
        t = torch.tensor([0.0, 0.013, 0.5, 0.777, 0.9999, 1.0], dtype=torch.float64)
        W = interpolation_matrix(frames, t, order=order)
        torch.testing.assert_close(W @ frames**order, t**order, rtol=0, atol=1e-12)
        torch.testing.assert_close(W.sum(1), torch.ones(6, dtype=torch.float64))

    def test_short_series_and_errors(self):
        one = interpolation_matrix(torch.zeros(1), torch.zeros(2))
        assert one.tolist() == [[1.0], [1.0]]
        with pytest.raises(InputError, match="simulate longer"):
            interpolation_matrix(torch.tensor([0.0, 1.0]), torch.tensor([1.1]))
        with pytest.raises(InputError, match="increasing"):
            interpolation_matrix(torch.tensor([0.0, 0.0]), torch.tensor([0.0]))


class TestObservation:
    def make(self, **options) -> Observation:
        gauge = Mean(torch.arange(2), torch.tensor([0.5, 0.5]), straight())
        times = torch.linspace(0, 1, 6, dtype=torch.float64)
        defaults = dict(
            name="tip",
            gauge=gauge,
            times=times,
            values=times[:, None] ** 2,
            sigma=torch.tensor(0.1),
            huber=None,
        )
        return Observation(**{**defaults, **options})

    frames = torch.linspace(0, 1, 21, dtype=torch.float64)

    def test_residual_is_in_noise_units(self):
        c = self.make().compare(self.frames, self.frames[:, None] ** 2 + 0.2)
        torch.testing.assert_close(c.residuals(), torch.full((6, 1), 2.0, dtype=torch.float64))
        assert c.objective().shape == (6,)
        assert self.make(weight=4.0).compare(self.frames, self.frames[:, None] ** 2 + 0.2).objective()[0] == (
            pytest.approx(4.0)
        )

    def test_held_out_window_valid_and_shortened(self):
        valid = torch.ones(6, 1, dtype=torch.bool)
        valid[0] = False
        seen = self.make(held_out=((0.55, math.inf),), valid=valid)
        c = seen.compare(self.frames, self.frames[:, None])
        assert c.fitted[:, 0].tolist() == [True] * 3 + [False] * 3
        assert c.objective().shape == (2,)
        assert c.within(0.3, None).objective().shape == (1,)
        assert c.held().objective().shape == (0,)
        assert len(seen.shortened(0.5).times) == 3 and seen.shortened(-1.0) is None

    def test_delay_holds_the_start_and_is_differentiable(self):
        delay = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
        c = self.make().compare(self.frames, self.frames[:, None] ** 2 + 1, delay=delay)
        assert c.predicted[:, 0].tolist() == pytest.approx([1.0, 1.0, 1.01, 1.09, 1.25, 1.49])
        c.predicted[-1].sum().backward()
        assert float(delay.grad) == pytest.approx(1.4)

    def test_errors(self):
        with pytest.raises(InputError, match="empty"):
            self.make(times=torch.zeros(0), values=torch.zeros(0, 1))
        with pytest.raises(InputError, match="non-finite"):
            self.make(values=torch.full((6, 1), math.nan))
        with pytest.raises(InputError, match="increase"):
            self.make(times=torch.zeros(6))
        with pytest.raises(InputError, match="noise"):
            self.make(sigma=torch.tensor(0.0))
        with pytest.raises(InputError, match="expected shape"):
            self.make(values=torch.zeros(6, 2))


def test_huber_residual_is_the_loss_and_smooth():
    r = torch.tensor([-5.0, -2.0, -1.0, 0.0, 1.9999, 2.0001, 9.0], dtype=torch.float64, requires_grad=True)
    f = huber_residual(r, 2.0)
    loss = torch.where(r.abs() <= 2, r**2 / 2, 2 * (r.abs() - 1))
    torch.testing.assert_close(f**2 / 2, loss)
    assert torch.autograd.gradcheck(lambda q: huber_residual(q, 2.0), (r,), eps=1e-7)
    assert huber_residual(r, None) is r


def test_reader_and_split():
    gauges = [Particles(torch.tensor([1])), Mean(torch.arange(2), torch.tensor([0.5, 0.5]), straight())]
    read = reader(gauges, lambda state: Snapshot(state))
    saved = [read(block() + i) for i in range(3)]
    first, second = split(gauges, saved)
    assert first.shape == (3, 3) and second.shape == (3, 1)
    assert float(second[2, 0] - second[0, 0]) == pytest.approx(2.0)
