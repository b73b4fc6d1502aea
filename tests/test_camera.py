"""The pixel camera: against OpenCV, differences, its own inverse, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.distortion import turning_radius

BROWN = (-0.21, 0.08, 1.3e-3, -2.1e-3, 0.011)
STRONG = (-0.35, 0.12, 2e-3, 1e-3, -0.02)


def front(distortion: tuple[float, ...] = BROWN, width: int = 640, height: int = 480) -> PixelCamera:
    """A camera at (0.3, 0.4, 1.1) m that looks near the origin."""
    camera = PixelCamera.look_at((0.3, 0.4, 1.1), (0.02, 0.05, -0.1), width, height, math.radians(55.0))
    return dataclasses.replace(
        camera, fy=1.02 * camera.fx, cx=camera.cx + 7.3, cy=camera.cy - 4.1, distortion=distortion
    )


def cloud(count: int = 60, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 0.3 * (torch.rand(count, 3, dtype=dtype, generator=torch.Generator().manual_seed(3)) - 0.5)


def matrices(camera: PixelCamera) -> tuple[np.ndarray, np.ndarray]:
    focal = np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
    return focal, np.array(camera.distortion)


@pytest.mark.parametrize("distortion", [BROWN, STRONG, (0.1, 0.0, 0.0, 0.0, 0.0), (0.0,) * 5])
def test_pixels_are_those_of_opencv(distortion: tuple[float, ...]) -> None:
    import cv2

    camera, x = front(distortion), cloud()
    focal, k = matrices(camera)
    turn, _ = cv2.Rodrigues(camera.world_to_camera[:3, :3].numpy())
    wanted, _ = cv2.projectPoints(x.numpy(), turn, camera.world_to_camera[:3, 3].numpy(), focal, k)
    pixels, depth = camera.project(x)
    np.testing.assert_allclose(pixels.numpy(), wanted.reshape(-1, 2), atol=1e-9, rtol=0)
    many = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-15)
    flat = cv2.undistortPoints(pixels.numpy()[:, None], focal, k, criteria=many).reshape(-1, 2)
    back = camera.to_camera(camera.unproject(pixels, depth))
    np.testing.assert_allclose((back[:, :2] / back[:, 2:]).numpy(), flat, atol=1e-9, rtol=0)
    np.testing.assert_allclose(camera.unproject(pixels, depth), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("camera", [front(), front(STRONG), PixelCamera.side_view(1e-3, 64, 48, up=(0.2, 1.0, 0.0))])
def test_derivatives_are_those_of_central_differences(camera: PixelCamera) -> None:
    x = cloud(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: torch.cat([t.reshape(-1) for t in camera.project(p)]), x)
    pixels, depth = (t.detach().requires_grad_() for t in camera.project(x))
    assert torch.autograd.gradcheck(camera.unproject, (pixels, depth))


def test_single_precision_stays_single() -> None:
    camera, x = front(), cloud()
    pixels, depth = camera.project(x.float())
    assert pixels.dtype == depth.dtype == camera.unproject(pixels, depth).dtype == torch.float32
    torch.testing.assert_close(pixels.double(), camera.project(x)[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("camera", [front(), PixelCamera.side_view(1e-3, 64, 48, (0.1, 0.2, 0.3), (0, -1, -1))])
def test_rays_pass_through_what_is_seen(camera: PixelCamera) -> None:
    x = cloud()
    origins, directions = camera.rays(camera.project(x)[0])
    along = ((x - origins) * directions).sum(dim=-1, keepdim=True)
    torch.testing.assert_close(origins + along * directions, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(len(x), dtype=torch.float64))


def test_a_picture_of_another_size_shows_the_same() -> None:
    camera, x = front(), cloud()
    small = camera.scaled(320, 120)
    ratio = torch.tensor([0.5, 0.25], dtype=torch.float64)
    torch.testing.assert_close(small.project(x)[0], (camera.project(x)[0] + 0.5) * ratio - 0.5, atol=1e-10, rtol=0)
    assert bool((small.visible(x) == camera.visible(x)).all())
    again = small.scaled(640, 480)
    assert math.isclose(again.fx, camera.fx) and math.isclose(again.cx, camera.cx) and math.isclose(again.cy, camera.cy)


def test_the_middle_of_a_picture_is_what_the_camera_looks_at() -> None:
    camera = PixelCamera.look_at((0.0, 0.5, 2.0), (0.0, 0.1, 0.0), 101, 61, math.radians(40.0))
    at = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.2, 0.0], [0.1, 0.1, 0.0]], dtype=torch.float64)
    (u, v), above, right = camera.project(at)[0]
    assert (float(u), float(v)) == pytest.approx((50.0, 30.0))
    assert above[1] < 30.0 and right[0] > 50.0
    edge = camera.rays(torch.tensor([[-0.5, 30.0], [100.5, 30.0]], dtype=torch.float64))[1]
    assert math.degrees(math.acos(float(edge[0] @ edge[1]))) == pytest.approx(40.0)


def test_a_side_view_is_a_ruler() -> None:
    camera = PixelCamera.side_view(2e-3, 100, 50, (0.3, 0.2, 0.0))
    x = torch.tensor([[0.3, 0.2, 0.0], [0.4, 0.2, 5.0], [0.3, 0.22, -5.0]], dtype=torch.float64)
    pixels, depth = camera.project(x)
    wanted = torch.tensor([[49.5, 24.5], [99.5, 24.5], [49.5, 14.5]], dtype=torch.float64)
    torch.testing.assert_close(pixels, wanted)
    torch.testing.assert_close(depth, torch.tensor([0.0, -5.0, 5.0], dtype=torch.float64))
    assert camera.visible(x - torch.tensor([1e-3, 0.0, 0.0])).tolist() == [True, True, True]
    assert camera.visible(x + torch.tensor([1e-3, 0.0, 0.0])).tolist() == [True, False, True]


def test_points_behind_are_counted_and_never_visible() -> None:
    camera = front()
    x = torch.cat([cloud(), camera.center + 0.2 * torch.tensor([[0.1, 0.0, 1.0], [0.0, 0.0, 2.0]])])
    with pytest.raises(InputError, match=r"2 of 62 points are behind the camera.*world to camera"):
        camera.project(x)
    assert int(camera.visible(x).sum()) == 60
    x[3, 1] = math.nan
    with pytest.raises(InputError, match="1 non-finite"):
        camera.project(x)


def test_what_the_distortion_folds_stays_outside_of_the_picture() -> None:
    camera = front((-0.3, 0.0, 1e-3, 0.0, 0.0))
    assert camera.reach == pytest.approx(math.sqrt(1 / 0.9)) == pytest.approx(turning_radius(camera.distortion))
    across = torch.linspace(0.0, 6.0, 200, dtype=torch.float64)
    local = torch.stack([across, 0.0 * across, torch.ones_like(across)], dim=1)
    x = (local - camera.world_to_camera[:3, 3]) @ camera.world_to_camera[:3, :3]
    u = camera.project(x)[0][:, 0]
    assert bool((u[1:] > u[:-1]).all())
    assert bool((across[camera.visible(x)] < camera.reach).all())
    corner = torch.tensor([[319.0, 239.0], [5000.0, 239.0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"1 of 2 pixels, the first at \[5000.0, 239.0\], have no ray.*k1 -0.3"):
        camera.unproject(corner, torch.ones(2))


def test_the_pose_carries_a_gradient() -> None:
    camera = front()
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    pose = camera.world_to_camera + torch.nn.functional.pad(shift[:, None], (3, 0, 0, 1))
    dataclasses.replace(camera, world_to_camera=pose).project(cloud())[0].sum().backward()
    assert shift.grad is not None and float(shift.grad.abs().min()) > 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fx": 0.0}, "fx must be a number above zero"),
        ({"cx": math.inf}, "cx must be a finite number"),
        ({"width": 0}, "has no pixels"),
        ({"parallel": True}, "a parallel camera has none"),
        ({"distortion": (0.1, 0.2)}, "expected k1, k2, p1, p2, k3"),
        ({"world_to_camera": 2.0 * torch.eye(4)}, "It is 2 times a rotation"),
        ({"world_to_camera": torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))}, "It mirrors"),
        ({"world_to_camera": torch.eye(4).roll(1, 1)}, "is not a rotation"),
        ({"world_to_camera": torch.eye(3)}, "world_to_camera: expected shape"),
    ],
)
def test_what_is_no_camera_is_refused(change: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        dataclasses.replace(front(), **change)


def test_views_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="along its own up"):
        PixelCamera.side_view(1e-3, 10, 10, direction=(0, 1, 0))
    with pytest.raises(InputError, match="looks nowhere"):
        PixelCamera.look_at((1, 2, 3), (1, 2, 3), 10, 10, 1.0)
    with pytest.raises(InputError, match="between 0 and 180"):
        PixelCamera.look_at((1, 2, 3), (0, 0, 0), 10, 10, 4.0)
    with pytest.raises(InputError, match="larger than 0 m"):
        PixelCamera.side_view(0.0, 10, 10)
    with pytest.raises(InputError, match="not above zero"):
        front().unproject(torch.zeros(2, 2), torch.tensor([1.0, 0.0]))
