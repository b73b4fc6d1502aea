"""Samples of throughput, taken in rotation so that drift of the machine falls on all programs alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from tools.bench.case import Case, Outcome, Program, Runner
from tools.bench.program_cpp import Cpp
from tools.bench.program_nclaw import NclawStyle
from tools.bench.program_physim import Physim, reference, relative
from tools.bench.program_taichi import Taichi
from tools.bench.program_torch import Torch
from tools.bench.program_warp import WarpTape

PROGRAMS: dict[str, Program] = {p.name: p for p in (Physim(), Cpp(), Taichi(), WarpTape(), NclawStyle(), Torch())}
KINDS = ("forward", "gradient")
SMALL, SMALL_SUBSTEPS = 1000, 20
"""Particles and substeps of the comparison with float64."""
MOST = 400
"""Most substeps of a rollout: beyond, the cube would have travelled far."""
MEMORY = 3 * 2**30
"""Most memory [bytes] that one program may keep for a gradient."""


@dataclass
class Config:
    """A program with a number of threads on one case, and its samples in million particle-substeps per second."""

    program: str
    case: Case
    threads: int
    runner: Runner
    substeps: dict[str, int] = field(default_factory=dict)
    rollouts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in KINDS})
    failed: str = ""

    def attempt(self, act: Callable[[], None]) -> None:
        """Do something, unless this program has failed before; the others go on where it fails now."""
        if not self.failed:
            try:
                act()
            except Exception as error:
                said = str(error).strip().splitlines() or [type(error).__name__]
                self.failed = f"failed: {said[-1]}"

    def time(self, kind: str, substeps: int, rollouts: int = 1) -> float:
        """Seconds of some rollouts."""
        torch.set_num_threads(self.threads)
        ready = getattr(self.runner, "ready", None)
        if ready is not None:
            # A runtime that was another's has neither kernels nor memory yet.
            ready()
            getattr(self.runner, kind)(substeps)
        began = time.perf_counter()
        for _ in range(rollouts):
            getattr(self.runner, kind)(substeps)
        return time.perf_counter() - began

    def calibrate(self, kind: str, seconds: float) -> None:
        """Choose how many substeps, and how many rollouts of them, make a sample of about `seconds`."""
        each, once = PROGRAMS[self.program].deepest
        most = MOST
        if kind == "gradient":
            most = max(2, min(MOST, int(MEMORY / (each * self.case.count + once))))
        substeps = 2
        self.time(kind, substeps)
        spent = self.time(kind, substeps)
        while spent < 0.2 * seconds and substeps < most:
            substeps = min(most, substeps * max(2, min(8, int(0.4 * seconds / spent))))
            self.time(kind, substeps)
            spent = self.time(kind, substeps)
        chosen = max(2, min(most, round(substeps * seconds / spent)))
        if chosen != substeps:
            self.time(kind, chosen)  # memory is touched for the first time here
        self.substeps[kind] = chosen
        self.rollouts[kind] = max(1, round(seconds / (spent * chosen / substeps)))

    def sample(self, kind: str) -> None:
        """Take one sample."""
        substeps, rollouts = self.substeps[kind], self.rollouts[kind]
        gc.collect()
        seconds = self.time(kind, substeps, rollouts)
        self.samples[kind].append(self.case.count * substeps * rollouts / seconds / 1e6)

    def median(self, kind: str) -> float:
        """Million particle-substeps per second."""
        return statistics.median(self.samples[kind])


def configs(names: Sequence[str], case: Case, threads: Sequence[int]) -> list[Config]:
    """The programs that can run the case; those of one thread once."""
    found = []
    for name in names:
        program = PROGRAMS[name]
        if program.missing() or case.count > program.largest:
            continue
        for count in threads if program.threaded else threads[:1]:
            used = count if program.threaded else 1
            found.append(Config(name, case, used, program.open(case, used)))
    return found


def measure(found: Sequence[Config], repeats: int, seconds: float, tell: Callable[[str], None]) -> None:
    """Fill the samples: all programs once, then all again."""
    for config in found:
        for kind in KINDS:
            tell(f"{config.program} x{config.threads}: calibrating {kind}")
            config.attempt(partial(config.calibrate, kind, seconds))
    for repeat in range(repeats):
        for config in found:
            for kind in KINDS:
                tell(f"{config.program} x{config.threads}: {kind}, sample {repeat + 1}")
                config.attempt(partial(config.sample, kind))


@dataclass(frozen=True)
class Errors:
    """Relative errors against float64: of the loss with and without a gradient, and of gradients.

    `falling` is that of dv0 where F = I all the way.
    """

    mean: float | None
    loss: float | None
    forward: float | None
    dv0: float | None
    dE: float | None
    falling: float | None


class Judge:
    """Compares programs with physim in float64 on small cases."""

    def __init__(self) -> None:
        self._true: dict[tuple[str, str], Outcome] = {}

    def true(self, case: Case) -> Outcome:
        """The reference of a case."""
        key = (case.scene, case.start)
        if key not in self._true:
            self._true[key] = reference(case, SMALL_SUBSTEPS)
        return self._true[key]

    def errors(self, name: str, scene: str, threads: int, start: str = "moving") -> Errors:
        """Errors of one program; `falling` only beside the start "moving"."""
        case, falling = Case(scene, SMALL, start), Case(scene, SMALL, "falling")
        true = self.true(case)
        torch.set_num_threads(threads)
        runner = PROGRAMS[name].open(case, threads)
        found, plain = runner.gradient(SMALL_SUBSTEPS), runner.forward(SMALL_SUBSTEPS)
        fell = None
        if start == "moving":
            dv0 = PROGRAMS[name].open(falling, threads).gradient(SMALL_SUBSTEPS).dv0
            fell = relative(dv0, self.true(falling).dv0)
        return Errors(
            relative(found.mean, true.mean),
            relative(found.loss, true.loss),
            relative(plain.loss, true.loss),
            relative(found.dv0, true.dv0),
            relative(found.dE, true.dE),
            fell,
        )


def available(names: Sequence[str]) -> Iterator[str]:
    """Those of the programs that can run here."""
    return (n for n in names if not PROGRAMS[n].missing())
