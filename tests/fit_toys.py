"""Forward models that need no simulator, for the tests of fitting."""

from __future__ import annotations

import torch
from torch import Tensor

from physim.fit.problem import Problem
from physim.fit.space import Quantity, Space, Transform
from physim.observe.record import Comparison
from physim.sim.trajectory import RolloutFailure, Status


class Oscillator(Problem):
    """A released beam's tip: y = g/w^2 (1 - exp(-c t) cos(w t)), w = 2 sqrt(E); fails where E is in `breaks`."""

    def __init__(self, noise=0.01, seed=0, breaks=(1e9, 1e9), dummy=False, count=120, huber=None, drift=0.0) -> None:
        quantities = [
            Quantity("materials.beam.E", "Pa", 8.0),
            Quantity("materials.beam.damping", "1/s", 0.3, lower=1e-3, upper=30.0),
        ]
        if dummy:
            quantities.append(Quantity("materials.beam.nu", "", 0.3, Transform.LOGIT, 0.0, 0.5))
        self.space = Space(tuple(quantities))
        self.recordings = ("a", "b")
        self.breaks = breaks
        self.sigma = 0.01
        self.huber = huber
        self.t = torch.linspace(0, 6, count, dtype=torch.float64)
        g = torch.Generator().manual_seed(seed)
        truth = torch.tensor([4.0, 0.5], dtype=torch.float64)
        self.data = {
            r: self.tip(r, truth)
            + noise * torch.randn(count, generator=g, dtype=torch.float64)
            + drift * torch.sin(2.5 * self.t)
            for r in self.recordings
        }

    def tip(self, recording: str, values: Tensor) -> Tensor:
        E, c = values[0], values[1]
        w = 2.0 * torch.sqrt(E)
        load = 9.81 if recording == "a" else 15.0
        return load / w**2 * (1 - torch.exp(-c * self.t) * torch.cos(w * self.t))

    def predict(self, recording: str, raw: Tensor, *, end: float | None = None) -> list[Comparison]:
        values = self.space.values(raw)
        if self.breaks[0] < float(values[0].detach()) < self.breaks[1]:
            raise RolloutFailure(Status.NONFINITE, substep=3, particle=1, t=0.1)
        shape = (len(self.t), 1)
        return [
            Comparison(
                name=f"{recording}.tip",
                columns=("y",),
                unit="m",
                at=self.t,
                measured=self.data[recording][:, None],
                predicted=self.tip(recording, values)[:, None],
                sigma=torch.full(shape, self.sigma, dtype=torch.float64),
                fitted=torch.ones(shape, dtype=torch.bool),
                valid=torch.ones(shape, dtype=torch.bool),
                huber=self.huber,
            )
        ]
