"""Cameras that are allowed and probably not meant: they see nothing of the bodies, or from far away."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from physim.observe.camera import PixelCamera
from physim.scene.problems import Findings

# No lens shows a body from so many times its size: the file of the camera, or a mesh, is in other units.
FAR = 100.0


def note_views(cameras: Mapping[str, PixelCamera], x: torch.Tensor, findings: Findings) -> None:
    """Add a warning for every camera that cannot be right.

    Args:
        cameras: by name in the scene.
        x: where the material is at first [m], (n, 3).
        findings: collects the warnings.
    """
    size = float((x.amax(dim=0) - x.amin(dim=0)).norm())
    center = 0.5 * (x.amax(dim=0) + x.amin(dim=0))
    for name, camera in cameras.items():
        path = ("cameras", name)
        away = float((camera.center - center).norm())
        if not camera.parallel and away > FAR * size:
            findings.warn(
                path,
                f"it stands {away:.3g} m from bodies that are {size:.3g} m large in all; are the units right? `scale` "
                "of the camera is the length of its file's unit, and `scale` of a mesh the length of the mesh's",
            )
        elif not bool(camera.visible(x).any()):
            behind = not camera.parallel and bool((camera.to_camera(x)[:, 2] <= 0.0).all())
            what = "all of the bodies are behind it" if behind else "none of the bodies is in its picture at the start"
            looks = ", ".join(f"{v:.2g}" for v in camera.forward.tolist())
            eye = ", ".join(f"{v:.3g}" for v in camera.center.tolist())
            findings.warn(
                path,
                f"{what}: it stands at ({eye}) m and looks along ({looks}), and the bodies are around "
                f"({', '.join(f'{v:.3g}' for v in center.tolist())}) m. Are axes and origin of its file those of the "
                "scene? If not, give it a `world`",
            )
