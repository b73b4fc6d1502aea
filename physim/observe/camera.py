"""Where a point of the scene is in a picture, and which ray a pixel sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.observe.distortion import NONE, Coefficients, distort, turning_radius, undistort

# A point this close to the plane of the eye [m] has no image: its pixel is beyond every number of single precision.
NEAREST = 1e-6
# A rotation kept in single precision is off by less than this.
ROTATION_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class PixelCamera:
    """A pinhole camera with lens distortion, or a parallel one (a view from the side with a ruler in it).

    Camera axes: x to the right of the picture, y down, z forward. Pixel centres are at whole numbers, (0, 0) is the
    middle of the top left pixel, so a picture spans -0.5 to width - 0.5. A pinhole camera maps (X, Y, Z) to

        u = fx x'' + cx,  v = fy y'' + cy,  where (x'', y'') is (X/Z, Y/Z) after distortion,

    a parallel one to u = fx X + cx, v = fy Y + cy, with fx and fy in pixels per metre.

    Attributes:
        world_to_camera: rotation and shift [m] from the scene's axes to the camera's, (4, 4) float64; may carry a
            gradient.
        fx, fy: focal lengths [px]; of a parallel camera pixels per metre.
        cx, cy: pixel of the optical axis.
        width, height: size of the picture [px].
        distortion: Brown's k1, k2, p1, p2, k3 [-], in OpenCV's order.
        parallel: no perspective. `depth` is then counted from the plane through `center`, and may be below zero.

    Raises:
        InputError: no rotation, or sizes that are not positive.
    """

    world_to_camera: Tensor
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: Coefficients = NONE
    parallel: bool = False

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.world_to_camera, dtype=torch.float64)
        check_shape("world_to_camera", matrix, (4, 4))
        check_finite("world_to_camera", matrix)
        object.__setattr__(self, "world_to_camera", matrix)
        object.__setattr__(self, "distortion", tuple(float(k) for k in self.distortion))
        check_rotation(matrix.detach()[:3, :3])
        if not torch.allclose(matrix.detach()[3], matrix.new_tensor([0.0, 0.0, 0.0, 1.0])):
            raise InputError(f"world_to_camera: the last row must be 0, 0, 0, 1, got {matrix[3].tolist()}.")
        if len(self.distortion) != len(NONE):
            raise InputError(f"distortion: expected k1, k2, p1, p2, k3, got {len(self.distortion)} numbers.")
        numbers = {"fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy}
        numbers |= dict(zip(("k1", "k2", "p1", "p2", "k3"), self.distortion, strict=True))
        for name, number in numbers.items():
            if not math.isfinite(number) or (name in ("fx", "fy") and number <= 0.0):
                wanted = "a number above zero" if name in ("fx", "fy") else "a finite number"
                raise InputError(f"camera: {name} must be {wanted}, got {number}.")
        if min(self.width, self.height) < 1:
            raise InputError(f"camera: a picture of {self.width} x {self.height} pixels has no pixels.")
        if self.parallel and any(self.distortion):
            raise InputError("camera: distortion is of angles, and a parallel camera has none; leave it out.")

    @staticmethod
    def side_view(
        metres_per_pixel: float,
        width: int,
        height: int,
        center: Sequence[float] = (0.0, 0.0, 0.0),
        direction: Sequence[float] = (0.0, 0.0, -1.0),
        up: Sequence[float] = (0.0, 1.0, 0.0),
    ) -> PixelCamera:
        """A parallel camera.

        Args:
            metres_per_pixel: size of a pixel in the scene [m].
            width: of the picture [px].
            height: of the picture [px].
            center: point in the middle of the picture [m], (3,); depth is counted from the plane through it.
            direction: in which the camera looks [-], (3,).
            up: direction that is up in the picture [-], (3,).
        """
        if not (math.isfinite(metres_per_pixel) and metres_per_pixel > 0.0):
            raise InputError(f"side view: a pixel must be larger than 0 m, got {metres_per_pixel}.")
        scale = 1.0 / metres_per_pixel
        pose = looking(center, direction, up)
        return PixelCamera(pose, scale, scale, middle(width), middle(height), width, height, parallel=True)

    @staticmethod
    def look_at(
        position: Sequence[float],
        target: Sequence[float],
        width: int,
        height: int,
        field_of_view: float,
        up: Sequence[float] = (0.0, 1.0, 0.0),
    ) -> PixelCamera:
        """A pinhole camera without distortion.

        Args:
            position: eye [m], (3,).
            target: point in the middle of the picture [m], (3,).
            width: of the picture [px].
            height: of the picture [px].
            field_of_view: angle between its left and its right edge [rad].
            up: direction that is up in the picture [-], (3,).
        """
        if not 0.0 < field_of_view < math.pi:
            told = math.degrees(field_of_view)
            raise InputError(f"camera: a field of view is between 0 and 180 degrees, got {told:g} degrees.")
        focal = 0.5 * width / math.tan(0.5 * field_of_view)
        pose = looking(position, [b - a for a, b in zip(position, target, strict=True)], up)
        return PixelCamera(pose, focal, focal, middle(width), middle(height), width, height)

    @property
    def center(self) -> Tensor:
        """The eye [m], (3,); of a parallel camera the point that depth is counted from."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]

    @property
    def forward(self) -> Tensor:
        """Direction in which the camera looks [-], (3,)."""
        return self.world_to_camera[2, :3]

    @cached_property
    def reach(self) -> float:
        """Distance from the axis, in focal lengths, beyond which the distortion turns back; infinite for most."""
        return turning_radius(self.distortion)

    def to_camera(self, x: Tensor) -> Tensor:
        """Positions along the camera's axes [m], (..., 3), from positions in the scene [m], (..., 3)."""
        pose = self.world_to_camera.to(x)
        return x @ pose[:3, :3].T + pose[:3, 3]

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where points are in the picture, differentiably; they may lie outside of it.

        Args:
            x: positions [m], (..., 3), of any floating dtype.

        Returns:
            pixels, (..., 2), and depth along the optical axis [m], (...).

        Raises:
            InputError: points behind the camera, or positions that are not finite.
        """
        _check_points("positions", x, 3)
        local = self.to_camera(x)
        depth = local[..., 2]
        flat = local[..., :2]
        if not self.parallel:
            self._check_in_front(x, depth)
            flat = flat / depth[..., None]
            if any(self.distortion):
                flat = distort(flat, self.distortion, self.reach)
        return flat * self._focal(x) + self._axis(x), depth

    def visible(self, x: Tensor) -> Tensor:
        """Whether points lie in the picture, occlusion aside; bool, (...), of positions [m], (..., 3)."""
        _check_points("positions", x, 3)
        local = self.to_camera(x.detach())
        front = torch.ones_like(local[..., 2], dtype=torch.bool) if self.parallel else local[..., 2] > NEAREST
        flat = local[..., :2]
        if not self.parallel:
            flat = flat / torch.where(front, local[..., 2], 1.0)[..., None]
            front = front & (flat.norm(dim=-1) < self.reach)
            if any(self.distortion):
                flat = distort(flat, self.distortion, self.reach)
        pixels = flat * self._focal(flat) + self._axis(flat)
        most = pixels.new_tensor([self.width - 0.5, self.height - 0.5])
        return front & ((pixels >= -0.5) & (pixels <= most)).all(dim=-1)

    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """The points [m], (..., 3), that are at these pixels, (..., 2), at a depth along the optical axis [m], (...).

        Raises:
            InputError: pixels that no light reaches because the distortion turns back, or depths that are not positive.
        """
        flat = self._undistorted(pixels)
        depth = torch.as_tensor(depth, dtype=flat.dtype, device=flat.device)
        if not self.parallel:
            bad = int((~(depth > NEAREST)).sum())
            if bad:
                raise InputError(f"depth: {bad} of {depth.numel()} values are not above zero; leave such pixels out.")
            flat = flat * depth[..., None]
        shape = torch.broadcast_shapes(flat.shape[:-1], depth.shape)
        return self._to_world(torch.cat([flat.expand(*shape, 2), depth.expand(shape)[..., None]], dim=-1))

    def rays(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What pixels look along.

        Args:
            pixels: (..., 2).

        Returns:
            origins [m], (..., 3), and directions of length 1 [-], (..., 3).

        Raises:
            InputError: pixels that no light reaches because the distortion turns back.
        """
        flat = self._undistorted(pixels)
        if self.parallel:
            ahead = self.forward.to(flat).expand(*flat.shape[:-1], 3)
            return self._to_world(torch.cat([flat, torch.zeros_like(flat[..., :1])], dim=-1)), ahead
        local = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1)
        directions = (local / local.norm(dim=-1, keepdim=True)) @ self.world_to_camera[:3, :3].to(flat)
        return self.center.to(flat).expand_as(directions), directions

    def scaled(self, width: int, height: int) -> PixelCamera:
        """The same view as a picture of another size [px]."""
        across, down = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * across - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
            width=width,
            height=height,
        )

    def _focal(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.fx, self.fy])

    def _axis(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.cx, self.cy])

    def _to_world(self, local: Tensor) -> Tensor:
        pose = self.world_to_camera.to(local)
        return (local - pose[:3, 3]) @ pose[:3, :3]

    def _undistorted(self, pixels: Tensor) -> Tensor:
        """Pixels to (X/Z, Y/Z), or to (X, Y) [m] of a parallel camera."""
        _check_points("pixels", pixels, 2)
        flat = (pixels - self._axis(pixels)) / self._focal(pixels)
        if not any(self.distortion):
            return flat
        found, sound = undistort(flat.double(), self.distortion, self.reach)
        if not bool(sound.all()):
            first = [round(v, 1) for v in pixels[~sound][0].tolist()]
            raise InputError(
                f"{int((~sound).sum())} of {sound.numel()} pixels, the first at {first}, have no ray: the distortion "
                f"{self._told()} turns back before it gets there. It was found from points nearer to the middle of the "
                "picture; calibrate with the board near the edges too, or leave k3 out."
            )
        return found.to(pixels.dtype)

    def _told(self) -> str:
        names = zip(("k1", "k2", "p1", "p2", "k3"), self.distortion, strict=True)
        return "(" + ", ".join(f"{n} {v:.4g}" for n, v in names if v) + ")"

    def _check_in_front(self, x: Tensor, depth: Tensor) -> None:
        behind = ~(depth.detach() > NEAREST)
        count = int(behind.sum())
        if not count:
            return
        check_finite("positions", x)
        worst = depth.detach()[behind].min()
        looks = ", ".join(f"{v:.3g}" for v in self.forward.detach().tolist())
        eye = ", ".join(f"{v:.3g}" for v in self.center.detach().tolist())
        raise InputError(
            f"{count} of {depth.numel()} points are behind the camera, by up to {max(-float(worst), 0.0):.3g} m: it "
            f"stands at ({eye}) m and looks along ({looks}). Is the pose from world to camera, not the inverse, with z "
            "forward and y down (OpenCV), and are its units metres?"
        )


def looking(position: Sequence[float], direction: Sequence[float], up: Sequence[float]) -> Tensor:
    """The pose, (4, 4), of a camera at `position` [m] that looks along `direction`, with `up` upwards.

    Raises:
        InputError: a direction of length zero, or `up` along it.
    """
    given = [torch.tensor([float(c) for c in v], dtype=torch.float64) for v in (position, direction, up)]
    for name, vector in zip(("position", "direction", "up"), given, strict=True):
        check_shape(f"camera {name}", vector, (3,))
        check_finite(f"camera {name}", vector)
    eye, ahead, above = given
    for name, vector in (("it looks nowhere: the direction", ahead), ("up", above)):
        if not float(vector.norm()) > 0.0:
            raise InputError(f"camera: {name} has length zero.")
    forward = ahead / ahead.norm()
    right = torch.linalg.cross(forward, above / above.norm())
    if not float(right.norm()) > 1e-6:
        raise InputError("camera: it looks along its own up direction; give another `up`.")
    right = right / right.norm()
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose


def middle(size: int) -> float:
    """The coordinate of the middle of a picture that is `size` pixels across."""
    return 0.5 * (size - 1)


def check_rotation(matrix: Tensor) -> None:
    """Raise `InputError`, saying what it is instead, unless `matrix`, (3, 3), is a rotation."""
    error = float((matrix @ matrix.T - torch.eye(3, dtype=matrix.dtype)).abs().max())
    det = float(torch.linalg.det(matrix))
    if error <= ROTATION_TOLERANCE and det > 0:
        return
    lengths = matrix.norm(dim=1)
    even = float(lengths.max() - lengths.min()) <= 1e-3 * float(lengths.max())
    if error <= ROTATION_TOLERANCE:
        hint = "It mirrors (its determinant is -1): one axis, or two of the rows, are wrong."
    elif even and float((matrix @ matrix.T / lengths[0] ** 2 - torch.eye(3)).abs().max()) < 1e-3:
        hint = f"It is {float(lengths.mean()):.6g} times a rotation: take the scale out."
    else:
        told = ", ".join(f"{v:.4g}" for v in lengths.tolist())
        hint = f"Its rows have lengths {told} and must be at right angles to each other, all of length 1."
    raise InputError(f"the upper left 3 x 3 of the pose is not a rotation, by {error:.2g}. {hint}")


def _check_points(name: str, points: Tensor, size: int) -> None:
    if points.ndim < 1 or points.shape[-1] != size or not points.is_floating_point():
        raise InputError(f"{name}: expected floats of shape (..., {size}), got {tuple(points.shape)} {points.dtype}.")
