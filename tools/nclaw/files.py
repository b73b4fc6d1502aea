"""A trained law as a material file that scenes can include, with where it comes from and what was measured."""

from __future__ import annotations

from pathlib import Path

from physim import __version__
from physim.fit.learn.shooting import Motion
from physim.fit.material_file import write_learned
from physim.fit.training import visited
from physim.laws.material import Material
from physim.scene.learned import LearnedSpec
from physim.scene.verify import figures
from tools.bench.report import machine


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
    seen = visited(s.F for s in motion.states)
    assert seen is not None
    learned = LearnedSpec(
        strain=seen.strain,
        volume=seen.volume,
        source=f"{len(motion.states)} states of 1,000 particles, {seconds:.0f} s on two cores",
        scene=f"nclaw_{name}",
        version=f"{__version__} ({machine()['commit']})",
        seed=seed,
        errors={f"{test}, mean squared position error": f"{error:.2g} m^2" for test, error in errors.items()},
        checks=figures(material, seen),
    )
    source = (
        "python -m tools.nclaw: trained on the standard scene of Ma et al. 2023, Learning Neural Constitutive Laws "
        "from Motion Observations, arXiv 2304.14369 (a synthetic material)"
    )
    return write_learned(
        folder / f"{name}.yaml",
        material,
        learned,
        title=f"{name.capitalize()}, learned from the motion of one thrown cube",
        source=source,
        valid="within the range of `learned`; no damping",
    )
