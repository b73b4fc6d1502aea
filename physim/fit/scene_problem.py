"""A scene with records as a problem: recordings are simulated on several threads, each with its own rigs."""

from __future__ import annotations

import threading

from torch import Tensor

from physim.errors import FitError
from physim.fit.problem import Problem
from physim.fit.rig import Rig, is_rebuilt
from physim.fit.space import Space
from physim.fit.stage import Stage
from physim.observe.record import Comparison
from physim.scene.loader import Scene

WARMING = threading.Lock()
"""The first run of each kind compiles kernels, which one thread does at a time."""


class SceneProblem(Problem):
    """Fit a scene to its records.

    Args:
        scene: with a `fit` section and records.
        space: the fitted quantities.
    """

    def __init__(self, scene: Scene, space: Space) -> None:
        self.scene, self.space = scene, space
        roles = {name: part.role for name, part in scene.spec.recordings.items()} or {"": "fit"}
        self.recordings = tuple(n for n, role in roles.items() if role == "fit")
        self.held_recordings = tuple(n for n, role in roles.items() if role == "holdout")
        if not self.recordings:
            raise FitError(f"{scene.name}: every recording is held out; at least one must have `role: fit`.")
        self.without_gradient = tuple(n for n in space.names if is_rebuilt(n))
        self._scenes = {n: scene.changed(recording=n) if n else scene for n in roles}
        self._idle: dict[str, list[Rig]] = {n: [] for n in roles}
        self._lock = threading.Lock()
        self._warm: set[tuple[str, bool]] = set()
        self._stages: dict[tuple[str, ...], SceneProblem] = {}

    def predict(self, recording: str, raw: Tensor, *, end: float | None = None) -> list[Comparison]:
        """Simulate one recording at raw parameters on an idle rig."""
        kind = (recording, raw.requires_grad)
        rig = self._take(recording)
        try:
            if kind in self._warm:
                return rig.run(raw, end=end)
            with WARMING:
                compared = rig.run(raw, end=end)
            self._warm.add(kind)
            return compared
        finally:
            with self._lock:
                self._idle[recording].append(rig)

    def for_stage(self, stage: Stage) -> Problem:
        """The same scene with the stage's settings."""
        if not stage.overrides:
            return self
        if stage.overrides not in self._stages:
            self._stages[stage.overrides] = SceneProblem(self.scene.changed(stage.overrides), self.space)
        return self._stages[stage.overrides]

    def rig(self, recording: str) -> Rig:
        """A fresh rig, for pictures of the fitted scene."""
        return Rig(self._scenes[recording], self.space, recording)

    def _take(self, recording: str) -> Rig:
        with self._lock:
            if self._idle[recording]:
                return self._idle[recording].pop()
        return self.rig(recording)
