"""A trained law as a material file that scenes can include, with where it comes from and what was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from physim import __version__
from physim.fit.learn.shooting import Motion
from physim.fit.material_file import dump
from physim.fit.training import strain_and_volume
from physim.laws.material import Material
from physim.laws.reach import Reach, reach_of
from physim.scene.learned import LearnedSpec
from physim.scene.rundir import write_atomic
from physim.scene.verify import figures
from physim.scene.weights_file import ENDING, write_weights
from tools.bench.report import machine

PARTS = ("law", "viscous", "inelastic")


def reach(motion: Motion) -> Reach:
    """The strains of an observed motion."""
    return reach_of(*strain_and_volume(torch.cat([s.F for s in motion.states])))


def write(
    folder: Path, name: str, material: Material, motion: Motion, *, seed: int, seconds: float, errors: dict[str, float]
) -> Path:
    """Write `name.yaml` and its weights.

    Args:
        folder: where.
        name: of the material, and of the file.
        material: as trained.
        motion: what it was trained on.
        seed: of its weights.
        seconds: of training.
        errors: mean squared position errors [m^2] by test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    visited = reach(motion)
    learned = LearnedSpec(
        strain=visited.strain,
        volume=visited.volume,
        source=f"{len(motion.states)} states of 1,000 particles, {seconds:.0f} s on two cores",
        scene=f"nclaw_{name}",
        version=f"{__version__} ({machine()['commit']})",
        seed=seed,
        errors={f"{test}, mean squared position error": f"{error:.2g} m^2" for test, error in errors.items()},
        checks=figures(material, visited),
    )
    laws = (material.elastic, material.viscous, material.inelastic)
    data: dict[str, Any] = {"title": f"{name.capitalize()}, learned from the motion of one thrown cube"}
    data["source"] = (
        "python -m tools.nclaw: trained on the standard scene of Ma et al. 2023, Learning Neural Constitutive Laws "
        "from Motion Observations, arXiv 2304.14369 (a synthetic material)"
    )
    data["valid"] = "within the range of `learned`; no damping"
    data["density"] = f"{material.rho0:.8g} kg/m^3"
    values = {n: float(v.detach()) for n, v in material.values().items()}
    for part, law, network in zip(PARTS, laws, material.networks, strict=True):
        if law is None:
            continue
        entry: dict[str, Any] = {"law": law.name if network is None else network.plan.family}
        if network is not None:
            file = f"{name}{'' if part == 'law' else f'_{part}'}{ENDING}"
            write_weights(folder / file, network)
            entry["network"] = {"file": file}
        own = {n: p for n, p in material.table.items() if _of(material, n) == part}
        entry |= {n: _quantity(values[n], p.unit) for n, p in own.items()}
        data |= entry if part == "law" else {part: entry}
    path = folder / f"{name}.yaml"
    write_atomic(path, dump(data | {"learned": learned.written()}))
    return path


def _of(material: Material, name: str) -> str:
    """Which law a value belongs to."""
    for part, law in zip(PARTS, (None, material.viscous, material.inelastic), strict=True):
        if law is not None and name in {p.name for p in law.params}:
            return part
    return "law"


def _quantity(value: float, unit: str) -> str | float:
    if unit == "rad":
        value, unit = math.degrees(value), "deg"
    return f"{value:.8g} {unit}" if unit not in ("", "-") else float(f"{value:.8g}")
