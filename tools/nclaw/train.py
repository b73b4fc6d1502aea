"""One row of the table: a law trained on the published motion, from moduli that are off by a factor of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from physim.fit.learn.shooting import Motion
from physim.laws.material import Material
from tools.nclaw.setting import Throw, cube, path, truth

ENCODERS = {"jelly": "invariants", "water": "volume", "plasticine": "hencky", "sand": "hencky"}
TERMS = ENCODERS | {"jelly": "stretches"}
"""What `cann` reads: the jelly's energy is among sums of terms of stretches, and of no terms of invariants."""
LEAST = 1e-4
"""Terms of `cann` with less than this share of a modulus are left out."""
LENGTHS = (25, 100, 1000)
"""Substeps of the runs to which constants are fitted, one after the other."""
UNITS_ALONE = 8
"""Units of a network that is trained without a linear start: every weight is a column of a Jacobian of runs."""
ROWS = ("analytic", "neural_energy", "neural_energy alone", "cann", "nclaw")
WORDS = {
    "analytic": "the true law, its constants fitted",
    "neural_energy alone": "neural_energy without the linear start",
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
    row: str, name: str, hidden: int, seed: int, observed: Motion, *, seconds: float, told: Callable[[str], None]
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
        material = _elastic(row, name, hidden, seed, observed, told)
    return lambda throw: path(throw, material), material


def _elastic(row: str, name: str, hidden: int, seed: int, observed: Motion, told: Callable[[str], None]) -> Material:
    """A law without a strength to learn."""
    from physim.fit.learn.linear import linear_start
    from physim.fit.learn.shooting import Shooting
    from physim.laws.neural import cann, formula, neural_energy

    law: Any = cann(TERMS[name]) if row == "cann" else None
    law = law or neural_energy(ENCODERS[name], hidden=UNITS_ALONE if "alone" in row else hidden)
    flow = "fluid" if name == "water" else None
    material = Material(law, inelastic=flow, rho0=1e3, values=off(name), network=law.network.make(seed=seed))
    material.free("network", *material.values())
    if "alone" not in row:
        shooting = Shooting(cube().solver(material), observed)
        found = linear_start(shooting)
        told(f"linear start: ridge {found.ridge:.0e}, misfit of runs left out {found.before:.3g} -> "
             f"{found.held_out:.3g}, shear {found.shear:.5g} Pa, bulk {found.bulk:.5g} Pa, "
             f"{len(found.unexcited)} of {len(found.sd)} coefficients not excited")  # fmt: skip
    else:
        _refine(material, observed, told, lengths=LENGTHS[:2], most=250, rounds=4)
    if row == "cann":
        material.network.prune(LEAST)
        told(formula(material))
        material.freeze()
        material.free(*material.values())
        _refine(material, observed, told, lengths=LENGTHS[:2])
    return material


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
