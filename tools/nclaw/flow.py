"""Plasticine and sand: an energy and a strength that are learned together from the published motion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch

from physim.fit.learn.flow import flow_start, held_in_strains, learned_start, with_history
from physim.fit.learn.refine import refine
from physim.fit.learn.shooting import Motion, Shooting
from physim.laws.material import Material
from physim.laws.neural import cann, neural_energy, neural_plastic
from tools.nclaw.setting import cube, truth
from tools.nclaw.train import LENGTHS, off

UNITS = 8
"""Units of the learned strength."""
UNITS_ALONE = 8
"""Units of an energy that is learned without a start: every weight is a column of a Jacobian of runs."""
STRAIN_NOISE = 1e-5
"""Unit of the residuals of elastic strains [-]."""
UNKNOWN = {
    "plasticine": {"friction_angle": math.radians(10.0)},
    "sand": {"yield_stress": 100.0},
}
"""Where constants of the learned strength start that are zero in truth."""


def train_flow(
    row: str, name: str, hidden: int, seed: int, observed: Motion, told: Callable[[str], None] = print
) -> Material:
    """Train one row of the table; the histories of the observed states are not looked at.

    Args:
        row: "analytic", "neural_energy", "neural_energy alone" or "cann".
        name: "plasticine" or "sand".
        hidden: units of `neural_energy`.
        seed: of weights drawn at random.
        observed: states.
        told: is told how it goes.
    """
    if row == "analytic":
        material = truth(name)
        material.set(**off(name))
        shooting = _shooting(material, observed)
        flow_start(shooting)
        material.free("E", "nu")
        refine(held_in_strains(shooting), length=1)
        flow_start(shooting)
        _constants(shooting, LENGTHS[:2], told)
        return material
    material = _learned(row, name, hidden, seed)
    shooting = _shooting(material, observed)
    if row == "neural_energy alone":
        _constants(shooting, LENGTHS[:1], told)  # longer runs would tell of the untrained weights
        material.free("network", "inelastic_network")
        _refine(shooting, LENGTHS[:2], told, most=250, rounds=4)
        return material
    read, found = learned_start(shooting, most=30)
    told(f"strength: left out {read.held_out:.1e} of it, {_values(read.values)}")
    told(f"linear start: ridge {found.ridge:.0e}, misfit of runs left out {found.before:.3g} -> {found.held_out:.3g}, "
         f"shear {found.shear:.5g} Pa, bulk {found.bulk:.5g} Pa, "
         f"{len(found.unexcited)} of {len(found.sd)} coefficients not excited")  # fmt: skip
    return material


def _learned(row: str, name: str, hidden: int, seed: int) -> Material:
    law: Any = cann("hencky") if row == "cann" else neural_energy("hencky", UNITS_ALONE if "alone" in row else hidden)
    flow: Any = neural_plastic(UNITS)
    nets = {"network": law.network.make(seed), "inelastic_network": flow.network.make(seed)}
    return Material(law, inelastic=flow, rho0=1e3, values=off(name) | UNKNOWN[name], **nets)


def _shooting(material: Material, observed: Motion) -> Shooting:
    motion = with_history(dataclasses.replace(observed, strain_noise=STRAIN_NOISE), material)
    return Shooting(cube().solver(material), motion)


def _constants(shooting: Shooting, lengths: tuple[int, ...], told: Callable[[str], None]) -> None:
    """Refine the constants that are not at a bound; the unit of strengths is none."""
    material = shooting.material
    material.freeze()
    material.free(*(n for n in material.raw if n != "stress_scale"))
    _refine(shooting, lengths, told)


def _refine(
    shooting: Shooting, lengths: tuple[int, ...], told: Callable[[str], None], most: int = 1000, rounds: int = 8
) -> None:
    for substeps in lengths:
        length = substeps // shooting.motion.every
        done = refine(shooting, length=length, most=max(1, most // substeps), rounds=rounds)
        told(f"runs of {substeps} substeps: misfit {done[0].misfit:.4g} -> {done[-1].misfit:.4g}, "
             f"{_values(shooting.material.values())}")  # fmt: skip


def _values(values: dict[str, Any]) -> str:
    return ", ".join(f"{n} {torch.as_tensor(v).detach().item():.6g}" for n, v in values.items())
