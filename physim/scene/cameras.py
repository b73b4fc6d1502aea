"""Cameras of a scene, typed in or read from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from physim.errors import InputError
from physim.observe.camera import PixelCamera, looking, middle
from physim.scene.camera_files import Array, FileError, Lens, Posed, moved, nearest_rotation
from physim.scene.colmap import read_colmap
from physim.scene.document import display, read_document
from physim.scene.fields import padded
from physim.scene.nerfstudio import read_transforms
from physim.scene.problems import Findings, translate
from physim.scene.spec import ScenePart
from physim.scene.spec_camera import CameraFilePart, CameraPart, IntrinsicsPart, Matrix, WorldPart
from physim.shapes.shape import rotation_matrix

if TYPE_CHECKING:
    from physim.scene.loader import Scene


def make_cameras(scene: Scene) -> dict[str, PixelCamera]:
    """The cameras of a scene, by name.

    Raises:
        SceneError: everything that is wrong with them, with file, line and entry.
    """
    findings = Findings(scene.document)
    found = read_cameras(scene.spec, findings)
    findings.stop_if_any()
    return found


def read_cameras(spec: ScenePart, findings: Findings) -> dict[str, PixelCamera]:
    """The cameras that can be had; what is wrong with the others is noted."""
    found = {}
    for name, part in spec.cameras.items():
        try:
            found[name] = _camera(part, upwards(spec))
        except FileError as error:
            findings.add(("cameras", name, error.key), str(error))
        except InputError as error:
            findings.add(("cameras", name), str(error))
    return found


def upwards(spec: ScenePart) -> tuple[float, float, float]:
    """The direction against gravity [-], or y where there is none."""
    x, y, z = (-g + 0.0 for g in padded(spec.gravity))
    return (x, y, z) if any((x, y, z)) else (0.0, 1.0, 0.0)


def _camera(part: CameraPart, up: tuple[float, float, float]) -> PixelCamera:
    """One camera.

    Args:
        part: what the scene says.
        up: what is up in the picture unless it says otherwise [-].
    """
    if part.side_view is not None:
        assert part.size is not None
        view = part.side_view
        above = padded(view.up) if view.up is not None else up
        return PixelCamera.side_view(view.scale, *_pair(part.size), padded(view.center), padded(view.looks), above)
    if part.look is not None and part.look.field_of_view is not None:
        assert part.size is not None
        view = part.look
        above = padded(view.up) if view.up is not None else up
        eye, target = padded(view.position), padded(view.at)
        assert view.field_of_view is not None
        return PixelCamera.look_at(eye, target, *_pair(part.size), view.field_of_view, above)
    read = _read(part)
    lens = read.lens if isinstance(read, Posed) else read
    assert lens is not None
    size = _size(part, lens)
    if part.look is not None:
        eye, target = padded(part.look.position), padded(part.look.at)
        ahead = [b - a for a, b in zip(eye, target, strict=True)]
        pose = looking(eye, ahead, padded(part.look.up) if part.look.up is not None else up)
    elif part.matrix is not None:
        pose = torch.as_tensor(moved(Posed(lens, _typed(part.matrix)), part.scale, *_world(part.world)).world_to_camera)
    elif isinstance(read, Posed):
        pose = torch.as_tensor(moved(read, part.scale, *_world(part.world)).world_to_camera)
    else:
        told = "it holds a lens without a pose; add `look: {from, at}` or `matrix` to the camera, or find the pose with"
        told += " `physim calibrate` from a picture of the board or of a marker that stands where the film was made."
        raise FileError("file", told)
    return _pinhole(lens, size, pose)


def _pinhole(lens: Lens, size: tuple[int, int], pose: torch.Tensor) -> PixelCamera:
    cx, cy = (c if c is not None else middle(n) for c, n in zip((lens.cx, lens.cy), size, strict=True))
    return PixelCamera(pose, lens.fx, lens.fy, cx, cy, *size, lens.distortion)


def _read(part: CameraPart) -> Posed | Lens:
    """What files and `intrinsics` say."""
    size = _pair(part.size) if part.size is not None else None
    if part.colmap is not None:
        return read_colmap(Path(part.colmap), part.image)
    if part.file is None:
        assert part.intrinsics is not None
        return _lens(part.intrinsics, size)
    path = Path(part.file)
    if path.suffix.lower() in (".yaml", ".yml"):
        if part.frame is not None:
            raise FileError("frame", f"{path.name} holds one camera; leave `frame` out.")
        return read_calibrated(path)
    if path.suffix.lower() != ".json":
        raise FileError("file", f"{path.name}: expected a transforms.json, or the .yaml of `physim calibrate`.")
    if part.look is not None or part.matrix is not None:
        raise FileError("file", f"{path.name} says where the camera is; leave `look` and `matrix` out.")
    return read_transforms(path, part.frame, size)


def read_calibrated(path: Path) -> Posed | Lens:
    """The camera in a file that `physim calibrate` wrote; a lens alone where it has no pose.

    Raises:
        FileError: with every mistake in the file, by line.
    """
    from pydantic import ValidationError

    try:
        document = read_document(path)
    except InputError as error:
        raise FileError("file", str(error)) from None
    findings = Findings(document)
    seen: dict[int, type] = {}
    try:
        part = CameraFilePart.model_validate(document.data, context={"dim": 3, "seen": seen})
    except ValidationError as error:
        translate(findings, error.errors(include_url=False), seen)
        raise FileError("file", "; ".join(str(p).rstrip(".") for p in findings.problems)) from None
    lens = _lens(part.intrinsics, _pair(part.size))
    return lens if part.matrix is None else Posed(lens, _typed(part.matrix, f"{display(path)}: matrix", "file"))


def _lens(part: IntrinsicsPart, size: tuple[int, int] | None) -> Lens:
    distortion = (part.k1, part.k2, part.p1, part.p2, part.k3)
    return Lens(part.fx, part.fy or part.fx, part.cx, part.cy, distortion, size)


def _typed(matrix: Matrix, where: str = "world to camera", key: str = "matrix") -> Array:
    """A pose in a YAML file as (4, 4), its rotation cleaned of rounding."""
    pose = np.eye(4)
    pose[:3] = np.array(matrix, dtype=np.float64)[:3]
    pose[:3, :3] = nearest_rotation(pose[:3, :3], where, key)
    return pose


def _world(part: WorldPart | None) -> tuple[Array, Array]:
    """Rotation, (3, 3), and shift [m], (3,), from a file's world to the scene's."""
    if part is None:
        return np.eye(3), np.zeros(3)
    shift = np.array(padded(part.translation))
    if part.x is None or part.y is None:
        return rotation_matrix(padded(part.rotation) if part.rotation is not None else (0.0, 0.0, 0.0)), shift
    across, above = np.array(padded(part.x)), np.array(padded(part.y))
    lengths = np.linalg.norm(across) * np.linalg.norm(above)
    if not lengths > 0.0 or abs(across @ above) > 1e-3 * lengths:
        raise FileError("world", "`x` and `y` must be at right angles to each other.")
    across /= np.linalg.norm(across)
    above = above - across * (across @ above)
    above /= np.linalg.norm(above)
    return np.stack([across, above, np.cross(across, above)], axis=1), shift


def _size(part: CameraPart, lens: Lens) -> tuple[int, int]:
    """Width and height of the picture that a lens is told for [px]."""
    given = _pair(part.size) if part.size is not None else None
    size = lens.size or given
    assert size is not None
    if given is not None and given != size:
        told = f"the file says {size[0]} x {size[1]} pixels, the scene {given[0]} x {given[1]}; leave `size` out: "
        raise FileError("size", told + "pictures of another size are seen by the same camera, scaled.")
    return size


def _pair(size: tuple[int, ...]) -> tuple[int, int]:
    return (size[0], size[1])
