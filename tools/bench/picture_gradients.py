"""Gradients of the losses of videos: by positions of particles, and by a stiffness through a rollout.

A jelly of 216 particles falls on a floor and is compared, as in a fit, with the same jelly 1.3 times as stiff and a
little aside: half the sum of squared robust residuals in units of noise, at every saved frame. Gradients by all
positions in all frames are put beside central differences of the loss along random directions; those by ln E, adjoints
of the whole rollout, beside central differences of rollouts. Errors are relative to the gradient's norm (by positions,
per unit of a direction's) or to the slope (by E). Steps are in spacings of particles, or of ln E: those at which
Richardson's extrapolation changes least. Exit status 1 if an error is above 1e-3.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from physim.observe.camera import PixelCamera
from physim.observe.cloud import Cloud, surface_rows
from physim.observe.colour import Colour
from physim.observe.cover import PIXEL, SIGMA
from physim.observe.depth import Depth
from physim.observe.framewise import Framewise
from physim.observe.gauge import Gauge, Snapshot
from physim.observe.image_tracks import ImageTracks
from physim.observe.overlap import SoftIoU
from physim.observe.record import Observation
from physim.observe.silhouette import Silhouette
from physim.observe.splat import PIXEL_AVERAGE, SIGMA_AVERAGE
from physim.observe.splat_maps import PER_SIGMA
from physim.observe.tracks import Tracks
from physim.scene.build import build
from physim.scene.built import Built
from physim.scene.loader import load_scene
from physim.sim.rollout import rollout

BAR = 1e-3
RATIO = 4.0
STEPS = tuple(2e-2 * RATIO**-k for k in range(8))
"""Steps of differences in double precision [spacings, or of ln E]."""
COARSE = tuple(4e-2 * 0.5**k for k in range(8))
"""Those in single precision [spacings]."""
STIFFER = 1.3
ASIDE = 0.15
"""How far the observed body is aside [spacings]."""
SCENE = """\
title: a jelly falls on a floor
grid: {origin: [0, 0, 0], upper: [0.32, 0.32, 0.32], dx: 4 cm, on_walls: false}
gravity: [0, -9.81, 0]
time: {duration: 80 ms, frame: 20 ms}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  jelly: {shape: {box: {lower: [0.1, 0.08, 0.1], upper: [0.22, 0.2, 0.22]}}, material: gel, velocity: [0.2, -1.5, 0]}
walls: {y_min: {type: coulomb, friction: 0.5, position: 0.06}}
"""
DTYPES = {64: torch.float64, 32: torch.float32}


@dataclass
class Row:
    """Relative errors of one loss.

    Attributes:
        loss: its name.
        window: radius within which a particle reaches pixels [px]; None for none.
        errors: `positions_64`, `positions_32` (gradient in single precision beside differences in double),
            `alone_32` (beside differences in single), `E_64`, `E_32`.
        steps: at which the differences were taken.
    """

    loss: str
    window: float | None
    errors: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def bad(self) -> list[str]:
        """Kinds of error above the bar."""
        return [k for k, e in self.errors.items() if not e <= BAR]


class Stage:
    """The jelly, its rollouts, and what is observed of the stiffer one."""

    def __init__(self) -> None:
        self.built = {bits: _built(bits) for bits in DTYPES}
        self.x0 = self.built[64].x0
        self.spacing = float(self.built[64].bodies[0].spacing)
        with torch.no_grad():
            self.times, frames = self.motion(0.0)
            _, seen = self.motion(math.log(STIFFER))
        self.frames, seen = frames.detach(), seen.detach()
        aside = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64) * ASIDE * self.spacing
        self.observed = self._observations(seen + aside)

    def motion(self, log_e: Tensor | float, bits: int = 64) -> tuple[Tensor, Tensor]:
        """Times [s], (f,), and positions [m], (f, n, 3), at this logarithm of E over that of the scene."""
        built = self.built[bits]
        material = built.model.materials[0]
        value = 2e4 * torch.exp(torch.as_tensor(log_e, dtype=torch.float64))
        material.set(E=value.detach())  # type: ignore[operator]
        material.free("E")  # type: ignore[operator]
        found = rollout(
            built.solver, built.state, dt=built.dt, steps=built.steps, every=built.every, save=lambda s: s.x.double()
        )
        x = torch.stack(found.saved)
        if value.requires_grad:
            raw = material.raw["E"]  # type: ignore[index]
            x = _Chain.apply(x, raw, material.table["E"].to_raw(value))  # type: ignore[index]
        return torch.tensor(found.times, dtype=torch.float64), x

    def loss(self, observed: Observation, frames: Tensor) -> Tensor:
        """Half the sum of squared robust residuals, of positions [m], (f, n, 3)."""
        read = [observed.gauge.read(Snapshot(x, t=float(t))) for t, x in zip(self.times, frames, strict=True)]
        return 0.5 * observed.compare(self.times, torch.stack(read)).objective().square().sum()

    def _observations(self, seen: Tensor) -> dict[str, tuple[Observation, float | None]]:
        """Every kind of loss with its window [px]."""
        h, times, x0 = self.spacing, self.times, self.x0
        camera = PixelCamera.look_at((0.3, 0.3, 0.75), (0.17, 0.12, 0.16), 48, 48, 0.5)
        depth = camera.project(x0)[1].mean()
        across = h * camera.fx / float(depth)
        outline = PER_SIGMA * math.hypot(SIGMA * across, PIXEL)
        front = PER_SIGMA * math.hypot(SIGMA_AVERAGE * across, PIXEL_AVERAGE)
        sharp, blurred = Silhouette(camera, h), Silhouette(camera, h, blur=2.0)
        frames = Framewise(times)
        masks = torch.stack([sharp.read(Snapshot(x)) for x in seen])
        draw = torch.Generator().manual_seed(0)
        colours = torch.rand(len(x0), 3, generator=draw, dtype=torch.float64)
        some = torch.randperm(len(x0), generator=draw)[:20]
        cloud = seen[:, surface_rows(x0, h)][:, ::2] + 0.3 * h
        kinds: dict[str, tuple[Gauge, float, float | None]] = {
            "silhouette, sharp": (sharp, 0.08, outline),
            "silhouette, blurred by 2 px": (blurred, 0.08, outline),
            "overlap (soft IoU)": (SoftIoU(sharp, masks, frames), 0.08 / float(masks.sum(1).mean().sqrt()), outline),
            "image_tracks": (ImageTracks(camera, Tracks.bind(x0, x0[some])), 0.5, None),
            "depth": (Depth(sharp, 1.5), 0.5 * h, max(front, outline)),
            "cloud, one way": (Cloud(cloud, frames, h), 0.5 * h, None),
            "cloud, both ways": (Cloud(cloud, frames, h, surface=surface_rows(x0, h)), 0.5 * h, None),
            "colour": (Colour(sharp, colours, torch.full((3,), 0.3, dtype=torch.float64)), 0.05, max(front, outline)),
        }
        found: dict[str, tuple[Observation, float | None]] = {}
        for name, (gauge, sigma, window) in kinds.items():
            valid = None
            if isinstance(gauge, (Cloud, SoftIoU)):
                values, valid = gauge.record
            else:
                values = torch.stack([gauge.read(Snapshot(x, t=float(t))) for t, x in zip(times, seen, strict=True)])
            noise = torch.tensor(sigma, dtype=torch.float64)
            found[name] = Observation(name, gauge, times, values, noise, valid, order=1), window
        return found


def measure(
    names: Sequence[str] = (),
    *,
    through: bool = True,
    directions: int = 3,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Row]:
    """A row for each loss, all unless named.

    Args:
        names: of losses.
        through: also through a rollout.
        directions: along which gradients by positions are compared.
        tell: told what is being done.
    """
    stage = Stage()
    rows = {n: Row(n, w) for n, (_, w) in stage.observed.items() if not names or n in names}
    for name, row in rows.items():
        tell(f"{name}, by positions")
        _by_positions(stage, stage.observed[name][0], row, directions)
    if through:
        tell("by E")
        _by_stiffness(stage, rows)
    yield from rows.values()


def _by_positions(stage: Stage, observed: Observation, row: Row, directions: int) -> None:
    # Positions that both precisions hold, so that both are asked for the same gradient.
    at = stage.frames.float().double()
    found = {}
    for bits, dtype in DTYPES.items():
        leaf = at.to(dtype, copy=True).requires_grad_()
        found[bits] = torch.autograd.grad(stage.loss(observed, leaf), leaf)[0].detach().double()
    draw = torch.Generator().manual_seed(1)
    for _ in range(directions):
        way = stage.spacing * torch.randn(at.shape, generator=draw, dtype=torch.float64)
        size = float(found[64].norm()) * stage.spacing
        slope, step = _slope(lambda s, way=way: _value(stage, observed, at + s * way), STEPS)
        rough, coarse = _slope(lambda s, way=way: _single(stage, observed, at + s * way, found[64]), COARSE)
        row.steps |= {"positions": step, "alone": coarse}
        for kind, bits, true in (("positions_64", 64, slope), ("positions_32", 32, slope), ("alone_32", 32, rough)):
            error = abs(float((found[bits] * way).sum()) - true) / size
            row.errors[kind] = max(row.errors.get(kind, 0.0), error)


def _by_stiffness(stage: Stage, rows: dict[str, Row]) -> None:
    found = {}
    for bits in DTYPES:
        leaf = torch.zeros((), dtype=torch.float64, requires_grad=True)
        frames = stage.motion(leaf, bits)[1]
        for name in rows:
            loss = stage.loss(stage.observed[name][0], frames)
            found[name, bits] = float(torch.autograd.grad(loss, leaf, retain_graph=True)[0])
    moved = {s: stage.motion(s)[1].detach() for k in STEPS for s in (k, -k)}
    for name, row in rows.items():
        observed = stage.observed[name][0]
        slope, row.steps["E"] = _slope(lambda s, o=observed: _value(stage, o, moved[s]), STEPS)
        for bits in DTYPES:
            row.errors[f"E_{bits}"] = abs(found[name, bits] - slope) / abs(slope)


def _slope(value: Callable[[float], float], steps: Sequence[float]) -> tuple[float, float]:
    """The slope of a function at 0, and the smaller step at which its extrapolation changes least."""
    quotients = [(value(s) - value(-s)) / (2 * s) for s in steps]
    ratios = [(a / b) ** 2 for a, b in itertools.pairwise(steps)]
    better = [(r * b - a) / (r - 1) for r, (a, b) in zip(ratios, itertools.pairwise(quotients), strict=True)]
    changes = [abs(b - a) for a, b in itertools.pairwise(better)]
    best = changes.index(min(changes))
    return better[best + 1], steps[best + 2]


@torch.no_grad()
def _value(stage: Stage, observed: Observation, frames: Tensor) -> float:
    return float(stage.loss(observed, frames))


def _single(stage: Stage, observed: Observation, frames: Tensor, by_x: Tensor) -> float:
    """The loss in single precision, less what the rounding of positions changes to first order."""
    rounded = frames.float()
    return _value(stage, observed, rounded) - float((by_x * (rounded.double() - frames)).sum())


class _Chain(torch.autograd.Function):
    """Positions that depend on a raw parameter, made to depend on the tensor that it equals."""

    @staticmethod
    def forward(ctx, x: Tensor, raw: Tensor, target: Tensor) -> Tensor:
        """The positions themselves."""
        ctx.x, ctx.raw = x, raw
        return x.detach().clone()

    @staticmethod
    def backward(ctx, by_x: Tensor):
        """The cotangent of the raw parameter, handed to the target."""
        with torch.enable_grad():
            (by_raw,) = torch.autograd.grad(ctx.x, ctx.raw, by_x, retain_graph=True)
        return None, None, by_raw


def _built(bits: int) -> Built:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jelly.yaml"
        path.write_text(SCENE)
        return build(load_scene(path), precision={64: "double", 32: "single"}[bits])


HEADS = {
    "positions_64": "by positions, f64",
    "positions_32": "f32",
    "alone_32": "f32, own differences",
    "E_64": "by E, f64",
    "E_32": "f32",
}


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """A Markdown table."""
    yield "| loss | window [px] | " + " | ".join(HEADS.values()) + " | steps [spacings]: f64, f32 | step [ln E] |"
    yield "|---" * (len(HEADS) + 4) + "|"
    for r in rows:
        errors = [f"{r.errors[k]:.0e}" if k in r.errors else "-" for k in HEADS]
        window = "-" if r.window is None else f"{r.window:.1f}"
        steps = f"{r.steps['positions']:.0e}, {r.steps['alone']:.2g}"
        yield f"| {r.loss} | {window} | {' | '.join(errors)} | {steps} | {r.steps.get('E', math.nan):.0e} |"


def main() -> int:
    """Measure, print, write; 1 if an error is above the bar."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.picture_gradients", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    given = parser.parse_args()
    from rich.console import Console

    from physim.scene.kernel_cache import quiet_warp

    quiet_warp()
    with Console(stderr=True).status("") as status:
        rows = list(measure(tell=status.update))
    sys.stdout.write("\n".join(lines(rows)) + "\n")
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    bad = [f"{r.loss}: {HEADS[k]} {r.errors[k]:.1e}" for r in rows for k in r.bad]
    if bad:
        sys.stdout.write(f"above {BAR:.0e}:\n" + "\n".join(bad) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
