"""How little a law can be learned from: `python -m tools.nclaw.less`.

Frames: the first states of the published motion, or as many spread over all of it; full states of all particles, and
the linear start alone. Particles: only their positions are known beyond the first state, over the whole motion, and
whole runs are fitted to them. The error is the mean squared
position error over the published motion, all particles, and over three other throws.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from physim.fit.learn.learn import Lesson, learn, shortened
from physim.fit.learn.schedule import Schedule
from physim.fit.learn.shooting import Motion
from physim.laws.material import Material
from tools.nclaw.setting import STEPS, cube, motion, path, tests, truth
from tools.nclaw.train import ENCODERS, chosen

FRAMES = (1000, 300, 100, 30)
PARTICLES = (1000, 100, 20)
SHOWN = ("reconstruction", "velocity")


def main(argv: list[str] | None = None) -> int:
    """Print the table; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.nclaw.less", description=__doc__)
    parser.add_argument("--material", default="jelly", choices=["jelly", "water"])
    parser.add_argument("--frames", nargs="*", type=int, default=list(FRAMES))
    parser.add_argument("--particles", nargs="*", type=int, default=list(PARTICLES))
    parser.add_argument("--hidden", type=int, default=48, help="units where states are known")
    parser.add_argument("--hidden-tracks", type=int, default=8, help="units where positions of some particles are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    every = motion(truth(args.material), 1)
    known = {t: [path(throw, truth(args.material)) for throw in tests(args.material)[t]] for t in SHOWN}
    table = []
    print(f"{args.material}: mean squared position error [m^2]")
    print(f"{'observed':44}  {'processor s':>11}  " + "  ".join(f"{t:>14}" for t in SHOWN))
    for words, seen, observed in _cases(every, args.frames, args.particles):
        hidden = args.hidden if observed is None else args.hidden_tracks
        busy = time.process_time()
        material = _learned(args.material, hidden, args.seed, seen, observed)
        busy = time.process_time() - busy
        found = {}
        for test in SHOWN:
            throws = tests(args.material)[test]
            misses = [(path(t, material) - k).square().mean() for t, k in zip(throws, known[test], strict=True)]
            found[test] = float(torch.stack(misses).mean())
        table.append({"observed": words, "seconds": busy, "errors": found})
        print(f"{words:44}  {busy:11.0f}  " + "  ".join(f"{found[t]:14.1e}" for t in SHOWN), flush=True)
        if args.json:
            args.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


def _cases(every: Motion, frames: list[int], particles: list[int]) -> Any:
    """What is observed, in words, as a motion, and which particles."""
    for n in frames:
        if n < STEPS:
            yield f"first {n} frames, all particles", shortened(every, n + 1), None
        apart = max(1, STEPS // n)
        spread = replace(every, states=every.states[::apart], every=apart)
        yield f"{len(spread.states) - 1} frames, {apart} substeps apart, all particles", spread, None
    apart = 5
    seen = replace(every, states=every.states[::apart], every=apart)
    for n in particles:
        which = torch.linspace(0, len(every.states[0].x) - 1, n).round().long()
        yield f"positions of {n} particles, {len(seen.states) - 1} frames", seen, which


def _learned(name: str, hidden: int, seed: int, seen: Motion, observed: Any) -> Material:
    schedule = Schedule(method="none", held_out=0.0) if observed is None else Schedule()

    def taught(material: Material) -> float:
        found = learn([Lesson("throw", cube().solver(material), seen, observed=observed)], schedule)
        return found.held_out if found.start is None else found.start["held_out"]

    return chosen(name, ENCODERS[name], hidden, seed, taught, lambda words: print("  " + words, flush=True))


if __name__ == "__main__":
    sys.exit(main())
