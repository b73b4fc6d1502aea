"""One row of the table: a law trained on the published motion, from moduli that are off by a factor of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from physim.fit.learn.shooting import Motion
from physim.laws.material import Material
from tools.nclaw.setting import Throw, cube, path, truth

ENCODERS = {
    "jelly": ("invariants", "stretches", "hencky"),
    "water": ("volume",),
    "plasticine": ("hencky",),
    "sand": ("hencky",),
}
"""What a learned energy may read; of several, what explains best what is left out. Return maps need `hencky`."""
LEAST = 1e-4
"""Terms of `cann` with less than this share of a modulus are left out."""
LENGTHS = (25, 100, 1000)
"""Substeps of the runs to which constants are fitted, one after the other."""
UNITS_ALONE = 16
"""Units of an energy that is learned without a linear start: every coefficient is a column of a Jacobian of runs."""
ROWS = ("analytic", "neural_energy", "neural_energy alone", "cann", "nclaw")
WORDS = {
    "analytic": "the true law, its constants fitted",
    "neural_energy alone": "without the linear start: Gauss-Newton on runs of 25 and 100 substeps",
    "cann": "non-negative terms by the linear start; of jelly and water those of next to no weight left out and moduli "
    "refined",
    "nclaw": "the published networks, trained here with the published recipe for --seconds of processor time",
}


def off(name: str) -> dict[str, float]:
    """Where constants start from."""
    if name == "water":
        return {"bulk_modulus": 1.2e5}
    values = {"jelly": {"E": 5e4, "nu": 0.3}, "plasticine": {"E": 1.5e5, "nu": 0.35}, "sand": {"E": 5e5, "nu": 0.3}}
    flow = {"plasticine": {"yield_stress": 1e4}, "sand": {"friction_angle": math.radians(40.0)}}
    return values[name] | flow.get(name, {})


def train(
    row: str,
    name: str,
    hidden: int,
    seed: int,
    observed: Motion,
    *,
    seconds: float,
    told: Callable[[str], None],
    encoders: tuple[str, ...] = (),
) -> tuple[Callable[[Throw], Tensor], Material | None]:
    """Train one row on an observed motion: what makes paths of throws, and the material if the engine runs it.

    Args:
        row: one of `ROWS`.
        name: material.
        hidden: units of `neural_energy`.
        seed: of weights drawn at random.
        observed: states.
        seconds: budget of the published networks.
        told: is told how it goes.
        encoders: what an energy of jelly or water may read; those of `ENCODERS` unless given.
    """
    if row == "nclaw":
        from tools.nclaw.baseline import train_baseline

        return train_baseline(name, observed, seed, seconds).path, None
    if name in ("plasticine", "sand"):
        from tools.nclaw.flow import train_flow

        material = train_flow(row, name, hidden, seed, observed, told)
    elif row == "analytic":
        material = truth(name)
        material.set(**off(name))
        material.free(*material.values())
        _refine(material, observed, told)
    else:
        material = _elastic(row, name, hidden, seed, observed, told, encoders or ENCODERS[name])
    return lambda throw: path(throw, material), material


def _elastic(
    row: str,
    name: str,
    hidden: int,
    seed: int,
    observed: Motion,
    told: Callable[[str], None],
    encoders: tuple[str, ...],
) -> Material:
    """A law without a strength to learn."""
    from physim.laws.neural import formula

    def taught(material: Material) -> float:
        return (_by_runs if "alone" in row else _by_start)(material, observed, told)

    hidden = UNITS_ALONE if "alone" in row else hidden
    material = chosen(name, encoders, None if row == "cann" else hidden, seed, taught, told)
    if row == "cann":
        material.network.prune(LEAST)
        told(formula(material))
        material.freeze()
        material.free(*material.values())
        _refine(material, observed, told, lengths=LENGTHS[:2])
    elif "alone" in row:
        _by_runs(material, observed, told, LENGTHS[:2])
    return material


def chosen(
    name: str,
    encoders: tuple[str, ...],
    hidden: int | None,
    seed: int,
    taught: Callable[[Material], float],
    told: Callable[[str], None],
) -> Material:
    """The material of the encoder with the least misfit.

    Args:
        name: of the true material.
        encoders: candidates.
        hidden: units of `neural_energy`; None for `cann`.
        seed: of weights drawn at random.
        taught: learns a material, and tells its misfit.
        told: is told which one is taken.
    """
    from physim.laws.neural import cann, neural_energy

    found: list[tuple[float, str, Material]] = []
    for encoder in encoders:
        law: Any = cann(encoder) if hidden is None else neural_energy(encoder, hidden=hidden)
        flow, network = "fluid" if name == "water" else None, law.network.make(seed=seed)
        material = Material(law, inelastic=flow, rho0=1e3, values=off(name), network=network)
        material.free("network", *material.values())
        found.append((taught(material), encoder, material))
    misfit, encoder, material = min(found, key=lambda one: one[0])
    if len(found) > 1:
        told(f"taken: {encoder}, misfit {misfit:.3g}")
    return material


def _by_start(material: Material, observed: Motion, told: Callable[[str], None]) -> float:
    """Learn by the linear start alone; the misfit of the runs left out."""
    from physim.fit.learn.linear import linear_start
    from physim.fit.learn.shooting import Shooting

    found = linear_start(Shooting(cube().solver(material), observed))
    told(f"linear start of {material.elastic.name}: ridge {found.ridge:.0e}, misfit of runs left out "
         f"{found.before:.3g} -> {found.held_out:.3g}, shear {found.shear:.5g} Pa, bulk {found.bulk:.5g} Pa, "
         f"{len(found.unexcited)} of {len(found.sd)} coefficients not excited, {found.rounds} rounds")  # fmt: skip
    return found.held_out


def _by_runs(
    material: Material, observed: Motion, told: Callable[[str], None], lengths: tuple[int, ...] = LENGTHS[:1]
) -> float:
    """Learn by growing runs alone; the misfit of the last ones."""
    from physim.fit.learn.learn import Lesson, learn
    from physim.fit.learn.schedule import Schedule

    schedule = Schedule(start="none", held_out=0.0, lengths=lengths, whole=False, rounds=2)
    found = learn([Lesson("throw", cube().solver(material), observed)], schedule)
    last = found.history[-1]
    told(f"{material.elastic.name}, runs of {last['name']}: misfit {last['misfit']:.3g}")
    return last["misfit"]


def _refine(
    material: Material,
    observed: Motion,
    told: Callable[[str], None],
    lengths: tuple[int, ...] = LENGTHS,
    most: int = 1000,
    rounds: int = 8,
) -> None:
    from physim.fit.learn.refine import refine
    from physim.fit.learn.shooting import Shooting

    shooting = Shooting(cube().solver(material), observed)
    for substeps in lengths:
        length = substeps // observed.every
        done = refine(shooting, length=length, most=max(1, most // substeps), rounds=rounds)
        told(f"runs of {substeps} substeps: misfit {done[0].misfit:.4g} -> {done[-1].misfit:.4g}")
