"""The fitted simulation as frames in the result folder, as `physim run` writes them and pictures need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from physim.fit.rig import Rig
from physim.scene.built import Built
from physim.scene.run import BODIES, FRAMES
from physim.scene.rundir import write_atomic


def write_frames(rig: Rig, raw: Tensor, folder: Path) -> int:
    """Simulate a recording at raw parameters, (p,), and write every frame; returns how many.

    Raises:
        SimulationError: a substep failed.
    """
    count = 0

    def keep(built: Built, state: Any) -> None:
        nonlocal count
        particles = built.solver.particles(state)
        arrays = {"x": particles.x, "v": particles.v, "J": torch.linalg.det(particles.F)}
        frame = {k: v.detach().cpu().numpy().astype(np.float32) for k, v in arrays.items()}
        _write(folder / FRAMES / f"{count:05d}.safetensors", frame | {"t": np.array([particles.t])})
        count += 1

    with torch.no_grad():
        built = rig.play(raw, keep)
    body = np.concatenate([np.full(len(b.x), i, np.int32) for i, b in enumerate(built.bodies)])
    spacing = np.array([b.spacing for b in built.bodies])
    _write(folder / BODIES, {"body": body, "spacing": spacing})
    return count


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_atomic(path, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
