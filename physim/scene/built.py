"""A scene made into a model, a solver and a first state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from physim.observe.camera import PixelCamera
from physim.scene.build_bodies import BodyParticles
from physim.scene.loader import Scene
from physim.scene.placement import Placement
from physim.sim.model import Model


@dataclass(frozen=True)
class Built:
    """A scene ready to be rolled out.

    Attributes:
        scene: where it came from.
        model: grid, materials, walls, colliders.
        solver: the discretisation.
        state: the first state.
        dt: substep [s].
        steps: substeps in all.
        every: substeps between frames.
        bodies: particles by body, in the order of the model.
        x0: first positions [m], (n, 3) float64.
        cameras: by name.
        placement: of the scene's axes in the world; `cameras` and the model's gravity are in the scene's axes.
        warnings: what is allowed, and probably not meant.
    """

    scene: Scene
    model: Model
    solver: Any
    state: Any
    dt: float
    steps: int
    every: int
    bodies: tuple[BodyParticles, ...]
    x0: torch.Tensor
    cameras: Mapping[str, PixelCamera] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    placement: Placement = field(default_factory=lambda: Placement.of(None))

    @property
    def v0(self) -> torch.Tensor:
        """First velocities [m/s], (n, 3) float64."""
        return torch.cat([torch.as_tensor(b.v, dtype=torch.float64) for b in self.bodies])

    def rows(self, body: str | None) -> torch.Tensor:
        """Indices of the particles of one body, or of all, (m,)."""
        if body is None:
            return torch.arange(len(self.x0))
        found = next(b for b in self.model.bodies if b.name == body)
        return torch.arange(found.start, found.stop)

    def _seen(self, body: BodyParticles) -> str:
        """Size and mass of a body whose shape was read off pictures."""
        low, high = body.shape.bounds
        size = " x ".join(f"{1e3 * s:.3g}" for s in (high - low)[: self.scene.spec.dim])
        volume = float(body.vol0.sum())
        mass = volume * float(self.scene.materials[body.material].density or 0.0)
        amount = f"{1e6 * volume:.4g} cm^3, {mass:.4g} kg"
        if self.scene.spec.dim == 2:
            amount = f"{1e4 * volume:.4g} cm^2, {mass:.4g} kg per metre of depth"
        return f"shape      {body.name}: {body.told}; {size} mm, {amount}"

    def summary(self) -> list[str]:
        """What a user wants to know before a run."""
        spec, grid = self.scene.spec, self.model.grid
        limit = self.solver.stable_dt(self.state)
        counts = ", ".join(f"{b.name} {len(b.x)}" for b in self.bodies)
        return [
            f"{self.scene.name}: sound; {spec.title}",
            f"particles  {len(self.x0)} ({counts})",
            *(self._seen(b) for b in self.bodies if b.told),
            f"grid       {' x '.join(map(str, grid.shape))} nodes of {grid.dx:g} m",
            f"time       {self.steps} substeps of {self.dt:.4g} s (stable limit {limit:.4g} s), "
            f"{self.steps // self.every} frames",
        ]
