"""A first law without a search: the stress is linear in most weights, and so is one short run in the stress.

The momentum balance, tested with the grid's own functions over a short interval, is what a run of a few substeps from
an observed state integrates: no second differences of positions are taken. Its residuals are linear in the moduli, the
outer weights and the head's coefficients, at inner weights drawn at random (a random-feature regression; compare
EUCLID, Flaschel et al. 2021, doi:10.1016/j.cma.2021.113852). How much they are held back is chosen on runs left out:
as much as leaves these explained within the noise (Morozov's principle).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import FitError, InputError
from physim.fit.learn.shooting import Shooting
from physim.laws.material import Material
from physim.laws.parameters import elastic_constant

FOLD = 5
"""One of so many runs is left out of the fit and judges it."""
RIDGES = tuple(10.0**-k for k in range(1, 13))
"""Candidates for how much coefficients are held back, relative to what the data say about them on average."""
NOISE = 1.0
"""Misfit of the runs left out, in units of the noise, below which they are explained."""
STEP = 0.03
"""Step of the differences, in units of the modulus; less for a coefficient that says more than the modulus does."""
SHORTEST = 5
"""Least substeps of a run: in fewer, a law that is far off changes a motion by less than the noise."""
LINEAR = 0.1
"""Part of the residuals of the runs left out that a linear prediction may miss, in units of the noise."""
TOLD = 0.5
"""Share of a coefficient's prior variance that the motion must take away to count as excited."""


@dataclass(frozen=True)
class LinearStart:
    """What a linear start found.

    Attributes:
        shear, bulk: moduli at rest [Pa] (shear is 0 for a fluid).
        coefficients: by name [Pa]; units are numbered.
        sd: their standard deviations [Pa], from the residuals left and the ridge.
        unexcited: names of the coefficients about which the motion says next to nothing.
        ridge: how much coefficients were held back.
        misfit, held_out: root mean square of the residuals of the law as written, in units of the noise, of the runs
            fitted and left out.
        before: the same for the law before, on the runs left out.
        rounds: Gauss-Newton rounds that it took.
        missed: root mean square of what the last one's prediction missed of the residuals of the runs left out.
        kept: share of the units' size that the law's bounds have left (1 unless it is convex).
    """

    shear: float
    bulk: float
    coefficients: dict[str, float]
    sd: dict[str, float]
    unexcited: tuple[str, ...]
    ridge: float
    misfit: float
    held_out: float
    before: float
    rounds: int
    missed: float
    kept: float


def linear_start(shooting: Shooting, *, length: int | None = None, most: int = 60, rounds: int = 5) -> LinearStart:
    """Fit moduli, head and outer weights of the material's network, and write them into the material.

    Args:
        shooting: runs of the model whose material is learned.
        length: intervals of each run; as few as have `SHORTEST` substeps unless given, so that runs stay linear.
        most: number of runs.
        rounds: most Gauss-Newton rounds; it ends where one has predicted what the runs then do.

    Raises:
        FitError: a run fails, the motion tells too little, or the fit has no positive modulus.
    """
    layer, motion = Layer(shooting.material), shooting.motion
    if length is None:
        length = min(-(-SHORTEST // motion.every), motion.intervals)
    starts = motion.starts(length, most)
    left_out = starts[FOLD // 2 :: FOLD] if len(starts) >= FOLD else starts
    fitted = [s for s in starts if s not in left_out] or starts
    both = (fitted, left_out)

    def run(points: Tensor) -> list[Tensor]:
        found = [shooting.residuals(layer.theta(points), some, length) for some in both]
        if not all(bool(torch.isfinite(v).all()) for v in found):
            raise FitError("a run of the linear start fails; shorten the interval or start from moduli nearer by.")
        return found

    q = layer.start()
    steps = torch.full_like(q, STEP)
    here = [v[0] for v in run(q[None])]
    before, missed, done = _rms(here[1]), math.inf, 0
    while missed > LINEAR and done < rounds:
        slopes = [(v - r) / steps[:, None] for v, r in zip(run(q + torch.diag(steps)), here, strict=True)]
        p, ridge, (sd, told) = _solve(here, slopes, q, layer)
        predicted = here[1] + (p - q) @ slopes[1]
        q, here, done = p, [v[0] for v in run(p[None])], done + 1
        missed = _rms(here[1] - predicted)
        # The modulus of a unit may be hundreds of times its coefficient: all steps change the runs about as much.
        says = slopes[0].square().sum(dim=1).sqrt()
        steps = STEP * (says[0] / says).clamp(max=1.0)
    shear, bulk, kept = layer.write(q)
    now = shooting.material.theta().detach()[:1]
    ends = [shooting.residuals(now, some, length)[0] for some in both]
    names = layer.names
    return LinearStart(
        shear=shear,
        bulk=bulk,
        coefficients={n: float(v * layer.scale) for n, v in zip(names, q, strict=True)},
        sd={n: float(v * layer.scale) for n, v in zip(names, sd, strict=True)},
        unexcited=tuple(n for n, t in zip(names, told, strict=True) if t < TOLD),
        ridge=ridge,
        misfit=_rms(ends[0]),
        held_out=_rms(ends[1]),
        before=before,
        rounds=done,
        missed=missed,
        kept=kept,
    )


def _solve(
    here: list[Tensor], slopes: list[Tensor], q: Tensor, layer: Layer
) -> tuple[Tensor, float, tuple[Tensor, Tensor]]:
    """New coefficients, the strongest ridge that predicts the runs left out within the noise, or else the one that does
    so best, and (sd, share of the prior taken away).
    """
    J, r = slopes[0], here[0]
    normal, pull = J @ J.T, J @ (r - q @ J)  # of the residual r + (p - q) J at p = 0
    size = float(normal.diagonal().mean())
    held = layer.held.to(q)
    mute = [
        n for n, says, back in zip(layer.names, normal.diagonal() > 0.0, layer.held, strict=True) if not (says or back)
    ]
    if mute:
        raise FitError(f"the motion says nothing about {', '.join(mute)}: use one that deforms the body.")
    found: list[tuple[float, float, Tensor]] = []
    for ridge in RIDGES:
        p = layer.bounded(normal + ridge * size * torch.diag(held), -pull)
        if p is not None:
            found.append((_rms(here[1] + (p - q) @ slopes[1]), ridge, p))
    if not found:
        raise FitError(
            "the motion does not tell the coefficients apart: use more runs, or one that deforms the body more."
        )
    # Below the noise nothing tells laws apart, so that the one nearest to a law without units is the best guess.
    good = max(NOISE, min(miss for miss, *_ in found))
    _, ridge, p = next(one for one in found if one[0] <= good)
    variance = float((r + (p - q) @ J).square().mean())
    inverse = torch.linalg.inv(normal + ridge * size * torch.diag(held.clamp(min=1e-12)))
    sd = (variance * inverse.diagonal().clamp(min=0.0)).sqrt()
    # What the prior alone would leave: its precision is the ridge.
    told = 1.0 - inverse.diagonal() * ridge * size * held
    return p, ridge, (sd, told)


class Layer:
    """The linear coefficients of a network, in units of the modulus.

    Attributes:
        names: of the coefficients.
        held: which of them are held back.
        scale: the modulus [Pa] that they are multiples of.
    """

    def __init__(self, material: Material) -> None:
        network = material.network
        if network is None:
            raise InputError(f"{material.composition}: a linear start is for laws with weights, such as neural_energy.")
        self.material, self.network = material, network
        self._theta = material.theta().detach()[:1]
        self._named = [p.name for p in material.elastic.params]
        shear, self._bulk = (float(m) for m in material.elastic.moduli(self._theta[:, : len(self._named)]))
        self.scale, self._shear = shear or self._bulk, shear
        self.names = [c.name for c in network.coefficients]
        self.held = torch.tensor([c.held for c in network.coefficients])

    def start(self) -> Tensor:
        """The law at its simplest."""
        return self.network.begin(self._shear, self._bulk) / self.scale

    def theta(self, q: Tensor) -> Tensor:
        """Rows of theta for rows of coefficients."""
        with torch.no_grad():
            shear, bulk, columns = self.network.assemble(self.scale * q)
        native = {"mu": shear, "bulk_modulus": bulk, "lam": bulk - 2.0 / 3.0 * shear}
        rest = self._theta[:, len(self._named) + columns.shape[1] :].expand(len(q), -1)
        return torch.cat([*(native[n] for n in self._named), columns.expand(len(q), -1), rest], dim=1)

    def bounded(self, normal: Tensor, pull: Tensor) -> Tensor | None:
        """Least squares in which coefficients that must not be negative are not; None where they are held back too
        little to be told apart.
        """
        from scipy.optimize import nnls

        # Columns of like size: the search for those at zero compares them.
        size = normal.diagonal().sqrt()
        lower, failed = torch.linalg.cholesky_ex(normal / size / size[:, None])
        if int(failed):
            return None
        root = lower.T
        wanted = torch.linalg.solve_triangular(root.T, (pull / size)[:, None], upper=False)[:, 0]
        # A coefficient of either sign is the difference of two that are not negative.
        free = torch.tensor([not c.bounded for c in self.network.coefficients])
        found, _ = nnls(torch.cat([root, -root[:, free]], dim=1).numpy(), wanted.numpy(), maxiter=30 * len(free))
        parts = torch.as_tensor(found)
        q = parts[: len(free)].clone()
        q[free] -= parts[len(free) :]
        return q / size

    def write(self, q: Tensor) -> tuple[float, float, float]:
        """Put the coefficients into the material; its shear and bulk modulus [Pa], and the share of the units that its
        bounds leave.
        """
        try:
            shear, bulk, kept = self.network.take(self.scale * q)
        except InputError as error:
            raise FitError(
                f"the linear start fails: {error} The motion says too little about small strains. Use more or longer "
                "runs, or fit the moduli first."
            ) from None
        names = [n for n in self.material.values() if n in ("E", "nu", "mu", "lam", "bulk_modulus")]
        self.material.set(**{n: elastic_constant(n, shear, bulk) for n in names})
        return shear, bulk, kept


def _rms(r: Tensor) -> float:
    return math.sqrt(float(r.square().mean()))
