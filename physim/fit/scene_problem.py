"""A scene with records as a problem: recordings are simulated on several threads, each with its own rigs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from physim.errors import FitError
from physim.fit.problem import Problem
from physim.fit.rig import Rig, has_gradient
from physim.fit.space import Space
from physim.fit.stage import Stage
from physim.observe.record import Comparison
from physim.scene.loader import Scene


class Gate:
    """Lets many threads run at once, or one alone: kernels must not be compiled while others are launched."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = self._waiting = 0
        self._alone = False

    @contextmanager
    def entered(self, *, alone: bool) -> Iterator[None]:
        """Wait until nobody is inside (`alone`), or until nobody is or wants to be alone."""
        with self._changed:
            self._waiting += alone
            try:
                self._changed.wait_for(lambda: not (self._alone or (self._inside if alone else self._waiting)))
            finally:
                self._waiting -= alone
            self._alone = alone
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._alone = False
                self._changed.notify_all()


RUNNING = Gate()
"""The first run of each kind compiles kernels and runs alone, whichever problem it belongs to."""


class SceneProblem(Problem):
    """Fit a scene to its records.

    Args:
        scene: with a `fit` section and records.
        space: the fitted quantities.
        device: where it is simulated.
    """

    def __init__(self, scene: Scene, space: Space, *, device: str = "cpu") -> None:
        self.scene, self.space, self.device = scene, space, device
        roles = {name: part.role for name, part in scene.spec.recordings.items()} or {"": "fit"}
        self.recordings = tuple(n for n, role in roles.items() if role == "fit")
        self.held_recordings = tuple(n for n, role in roles.items() if role == "holdout")
        if not self.recordings:
            raise FitError(f"{scene.name}: every recording is held out; at least one must have `role: fit`.")
        self.without_gradient = tuple(n for n in space.names if not has_gradient(scene, n))
        if space.blocks and scene.spec.pose is not None and scene.spec.pose.static:
            raise FitError(f"{scene.name}: weights of learned laws cannot be fitted with `pose: static`.")
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
            if kind not in self._warm:
                with RUNNING.entered(alone=True):
                    compared = rig.run(raw, end=end)
                with self._lock:
                    self._warm.add(kind)
                return compared
            with RUNNING.entered(alone=False):
                return rig.run(raw, end=end)
        finally:
            with self._lock:
                self._idle[recording].append(rig)

    def for_stage(self, stage: Stage) -> Problem:
        """The same scene with the stage's settings."""
        if not stage.overrides:
            return self
        if stage.overrides not in self._stages:
            self._stages[stage.overrides] = SceneProblem(
                self.scene.changed(stage.overrides), self.space, device=self.device
            )
        return self._stages[stage.overrides]

    def moved(self, overrides: Callable[[Scene], Sequence[str]]) -> Problem:
        """The same scenes with other numbers, built at once so that a number out of range is told early."""
        # What has been compiled holds for the copy: numbers do not enter kernels.
        other = copy.copy(self)
        other._scenes = {n: s.changed(overrides(s)) for n, s in self._scenes.items()}
        other._idle, other._stages = {n: [] for n in self._idle}, {}
        start = self.space.start()
        for recording in self.recordings:
            rig = other.rig(recording)
            rig.prepare(start)
            other._idle[recording].append(rig)
        return other

    def rig(self, recording: str) -> Rig:
        """A fresh rig, for pictures of the fitted scene."""
        return Rig(self._scenes[recording], self.space, recording, device=self.device)

    def _take(self, recording: str) -> Rig:
        with self._lock:
            if self._idle[recording]:
                return self._idle[recording].pop()
        return self.rig(recording)
