"""The published method as our baseline: its networks, trained by us with its recipe on what physim learns from.

Adam, learning rates 1.0 (elastic) and 0.1 (plastic) falling as a cosine, gradients clipped at a norm of 0.1 network by
network; one step per epoch, an epoch being the whole motion in runs from true states, of 25 substeps in the first and
200 in the last; mean squared position error x 1e4 x restarts/steps. Both networks are learned for plasticine and sand;
jelly has no plastic map, and water's, which forgets all but J, is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physim.fit.learn.shooting import Motion
from physim.laws.points import Points
from physim.numeric import F32
from tools.nclaw.network import Perceptron, flowed, kirchhoff
from tools.nclaw.plain_runs import Box, Law, Runs
from tools.nclaw.setting import DT, EVERY, Throw, cube, truth

EPOCHS = 300
RATES = {"elastic": 1.0, "plastic": 0.1}
CLIP = 0.1
SCALE = 1e4
SHORT, LONG = 25, 200
"""Substeps of the runs at the start and at the end of training."""
PLASTIC = {"jelly": None, "water": "water", "plasticine": "learned", "sand": "learned"}
SIDE_BY_SIDE = ((4, 100), (2, 200))
"""So many runs at once where they have at most so many substeps: more are no faster on a CPU, and need memory."""


@dataclass
class Baseline:
    """Networks for one material.

    Attributes:
        name: of the material.
        law: the networks.
        epochs: of training, and how many of them changed nothing because a run had failed.
        failed: those.
        losses: of each epoch.
        seconds, cpu_seconds: of training, without compiling.
    """

    name: str
    law: Law
    epochs: int = 0
    failed: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def path(self, throw: Throw) -> Tensor:
        """Positions [m] at every fifth substep, (frames, n, 3); NaN from where a run fails."""
        return path(self.law, throw)


def untrained(name: str, seed: int) -> Baseline:
    """Networks as they are drawn."""
    draw = torch.Generator().manual_seed(seed)
    elastic, plastic = Perceptron(draw), PLASTIC[name]
    return Baseline(name, Law(elastic, Perceptron(draw) if plastic == "learned" else plastic))


def path(law: Law, throw: Throw) -> Tensor:
    """Positions [m] at every fifth substep of the published program, (frames, n, 3)."""
    plane = throw.planes[6] if throw.slope is not None else Box.plane
    runs = Runs(coupled(law, throw), Box(throw.vol0, throw.nodes, DT, plane=plane), 1, EVERY)
    rest = torch.zeros(len(throw.x), 3, 3)
    start, found = (throw.x, throw.v, rest, rest + torch.eye(3)), []
    with torch.no_grad():
        for _ in range(throw.steps // EVERY):
            runs.begin(*start)
            try:
                runs.forward(EVERY)
            except torch.linalg.LinAlgError:  # of a deformation gradient that is no longer finite
                break
            start = (runs.x[EVERY], runs.v[EVERY], runs.C[EVERY], runs.F[EVERY])
            found.append(runs.x[EVERY].double())
    missing = throw.steps // EVERY - len(found)
    return torch.stack(found + [torch.full_like(throw.x, math.nan, dtype=torch.float64)] * missing)


def coupled(law: Law, throw: Throw) -> Law:
    """The law on its share of the particles, and the true one of the other material on the rest."""
    if throw.other is None or throw.learned is None:
        return law
    points, own = Points(truth(throw.other), F32), slice(*throw.learned)
    rest = torch.ones(len(throw.x), dtype=torch.bool)
    rest[own] = False
    still = torch.eye(3, dtype=torch.float64).expand(int(rest.sum()), 3, 3)

    def stress(F: Tensor) -> Tensor:
        tau = torch.empty_like(F)
        tau[own] = kirchhoff(law.elastic, F[own]) if isinstance(law.elastic, Perceptron) else law.elastic(F[own])
        tau[rest] = points.stress(F[rest].double()).float()
        return tau

    def flow(F: Tensor) -> Tensor:
        found = torch.empty_like(F)
        if isinstance(law.plastic, Perceptron):
            found[own] = flowed(law.plastic, F[own])
        elif law.plastic == "water":
            found[own] = torch.linalg.det(F[own]).clamp(min=1e-6)[:, None, None] ** (1.0 / 3.0) * torch.eye(3)
        else:
            found[own] = law.plastic(F[own]) if callable(law.plastic) else F[own]
        found[rest] = points.project(F[rest].double(), still, DT)[0].float()
        return found

    return Law(stress, flow)


def train_baseline(
    name: str,
    motion: Motion,
    seed: int,
    seconds: float | None = None,
    epochs: int = EPOCHS,
    *,
    throw: Throw | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Baseline:
    """Train the published networks with the published recipe.

    Args:
        name: of the material.
        motion: what was observed; positions count at each of its states, runs start from them.
        seed: of the weights.
        seconds: budget; learning rates and restarts are stretched over as many epochs as fit into it by the time that
            the first took, and at most `epochs`.
        epochs: of the published recipe.
        throw: the body that was observed; the published cube unless given.
        clock: what the budget is measured with: CPU seconds, which others on the machine do not spend.
    """
    found, training = untrained(name, seed), _Training(motion, throw or cube())
    nets = {k: net for k in RATES if isinstance(net := getattr(found.law, k), Perceptron)}
    adam = torch.optim.Adam([{"params": list(net.parameters()), "lr": RATES[k]} for k, net in nets.items()])
    training.warm(found.law)
    began, wall, cpu = clock(), time.perf_counter(), time.process_time()
    planned, e = epochs, 0
    while e < planned:
        fall = 0.5 * (1.0 + math.cos(math.pi * e / planned))
        for group, kind in zip(adam.param_groups, nets, strict=True):
            group["lr"] = RATES[kind] * fall
        adam.zero_grad()
        loss = training.epoch(found.law, round(LONG + (SHORT - LONG) * fall))
        norms = [torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP) for net in nets.values()]
        found.losses.append(loss)
        if math.isfinite(loss) and all(bool(n.isfinite()) for n in norms):
            adam.step()
        else:
            found.failed += 1
        e += 1
        if e == 1 and seconds is not None:
            planned = max(1, min(epochs, int(seconds / max(clock() - began, 1e-9))))
    found.epochs, found.seconds, found.cpu_seconds = e, time.perf_counter() - wall, time.process_time() - cpu
    return found


class _Training:
    """Epochs over one motion."""

    def __init__(self, motion: Motion, throw: Throw) -> None:
        self._every, self._intervals = motion.every, motion.intervals
        self._states = {k: torch.stack([getattr(s, k) for s in motion.states]).float() for k in ("x", "v", "C", "F")}
        self._box = Box(throw.vol0, throw.nodes, motion.dt)
        self._runs: dict[int, Runs] = {}

    def _parts(self, length: int) -> Iterator[tuple[list[int], int]]:
        """Where runs begin, as many at once as are fast, and how many intervals they have."""
        starts = list(range(0, self._intervals, length))
        rest = self._intervals - starts[-1]
        worlds = next((w for w, most in SIDE_BY_SIDE if length * self._every <= most), 1)
        whole = starts if rest == length else starts[:-1]
        cut = len(whole) // worlds * worlds
        for i in range(0, cut, worlds):
            yield whole[i : i + worlds], length
        yield from (([s], length) for s in whole[cut:])
        if rest < length:
            yield starts[-1:], rest

    def _of(self, law: Law, worlds: int, rows: int) -> Runs:
        kept = self._runs.get(worlds)
        if kept is None or kept.law is not law or kept.rows < rows:
            most = dict(SIDE_BY_SIDE).get(worlds, LONG)
            kept = self._runs[worlds] = Runs(law, self._box, worlds, max(rows, most + self._every))
        return kept

    def warm(self, law: Law) -> None:
        """Compile what an epoch needs."""
        self._piece(law, [0], 1, 0.0)
        for net in (law.elastic, law.plastic):
            if isinstance(net, Perceptron):
                net.zero_grad()

    def epoch(self, law: Law, substeps: int) -> float:
        """Loss, and its gradients in the networks, of runs of about so many substeps over the whole motion."""
        length = max(1, min(self._intervals, round(substeps / self._every)))
        restarts = -(-self._intervals // length)
        weight = SCALE * restarts / self._intervals
        return sum(self._piece(law, starts, n, weight) for starts, n in self._parts(length))

    def _piece(self, law: Law, starts: list[int], length: int, weight: float) -> float:
        substeps, states = length * self._every, self._states
        runs = self._of(law, len(starts), substeps)
        runs.begin(*(states[k][starts] for k in ("x", "v", "C", "F")))
        try:
            runs.forward(substeps)
        except torch.linalg.LinAlgError:  # of a deformation gradient that is no longer finite
            return math.nan
        each = states["x"].shape[1]
        misses = {}
        for k in range(1, length + 1):
            wanted = states["x"][[s + k for s in starts]].reshape(-1, 3)
            misses[k * self._every] = runs.x[k * self._every] - wanted
        runs.backward(substeps, lambda t: misses[t] * (2.0 * weight / (3 * each)) if t in misses else None)
        return weight * sum(float(m.square().sum()) for m in misses.values()) / (3 * each)
