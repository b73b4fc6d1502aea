"""A fit in a process of its own that sends itself SIGKILL after some iterations; run by test_checkpoint.py."""

from __future__ import annotations

import os
import signal
import sys

import torch
from fit_toys import Oscillator

from physim.fit.checkpoint import CheckpointStore
from physim.fit.loop import run_fit
from physim.fit.stage import Method, Stage

KEY = {"the scene": "toy"}


def stages(method: str) -> tuple[Stage, ...]:
    """An early window, then all of the record."""
    return (Stage("early", Method(method), end=1.0, iterations=6), Stage("all", Method(method), iterations=8))


def main() -> None:
    folder, method, kill_after = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    problem = Oscillator()
    seen = 0

    def listen(record: dict) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    starts = [problem.space.factored(f) for f in (0.5, 2.0)]
    run_fit(problem, stages(method), starts, store=CheckpointStore(folder), key=KEY, listen=listen)


if __name__ == "__main__":
    main()
