"""Learned laws where they were not trained, and the formula of one: `python -m tools.nclaw.transfer`.

The shipped laws of materials/neural, learned in 3D from one thrown cube each, against the true laws: in a closed-form
tension test, on other bodies in 3D, in 2D beside another learned material, and as the formula that explains them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from physim.errors import FitError
from physim.fit.explain import explain
from physim.laws.material import Material
from physim.laws.tables import table_stress
from physim.scene.build import build
from physim.scene.document import Where
from physim.scene.loader import load_scene
from physim.scene.materials import make_material, read_material_file
from physim.scene.paths import find_material
from physim.sim.rollout import rollout
from tools.nclaw.setting import path, tests, truth

POOL = "learned_pool"
STRAIN = 0.2
"""Strains of the formula: most particles have seen them, in every direction."""
TRUE = {
    "jelly": "jelly",
    "water": "{law: fluid_quadratic, bulk_modulus: 57.692308 kPa, density: 1000 kg/m^3, inelastic: fluid}",
}
STRETCHES = (0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.3, 1.5)


def learned(name: str) -> Material:
    """The shipped learned law."""
    return make_material(read_material_file(find_material(f"neural/{name}", Where("command line", typed=True))))


def tension(name: str) -> str:
    """Nominal stress in tension and compression with free sides, beside the true one."""
    rows, worst, largest = [], 0.0, 0.0
    for stretch in STRETCHES:
        at = torch.tensor([stretch], dtype=torch.float64)
        try:
            got, want = (
                float(table_stress(m, "uniaxial", at, incompressible=False)) for m in (learned(name), truth(name))
            )
        except FitError:
            rows.append(f"{stretch:g}: unstable")
            continue
        rows.append(f"{stretch:g}: {got:.4g} ({want:.4g})")
        worst, largest = max(worst, abs(got - want)), max(largest, abs(want))
    told = f"largest difference {100 * worst / largest:.2g} % of the largest stress"
    return f"{name}, uniaxial nominal stress [Pa], learned (true): {', '.join(rows)}; {told}"


def pool(names: dict[str, str]) -> tuple[Tensor, dict[str, slice]]:
    """Positions [m] of all frames of the 2D scene with some materials, (frames, n, 2), and which particles are of which
    body.
    """
    scene = load_scene(POOL, [f"materials.{key}={name}" for key, name in names.items()])
    built = build(scene)
    with torch.no_grad():
        found = rollout(
            built.solver,
            built.state,
            dt=built.dt,
            steps=built.steps,
            every=built.every,
            save=lambda s: s.x[:, :2].double(),
        )
    ends, at = {}, 0
    for body in built.bodies:
        ends[body.name] = slice(at, at + len(body.x))
        at += len(body.x)
    return torch.stack(found.saved), ends


def mean_square(a: Tensor, b: Tensor) -> float:
    """Mean squared difference [m^2] over frames, particles and axes."""
    return float((a - b).square().mean())


def main(argv: list[str] | None = None) -> int:
    """Print the figures; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.nclaw.transfer", description=__doc__)
    parser.add_argument("--formula", type=Path, default=Path("jelly_formula.yaml"), help="where the formula is written")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(tension("jelly"))
    known: dict[tuple[str, int], Tensor] = {}

    def errors(material: Callable[[], Material], some: tuple[str, ...]) -> str:
        told = []
        for test in some:
            misses = []
            for i, throw in enumerate(tests("jelly")[test]):
                if (test, i) not in known:
                    known[test, i] = path(throw, truth("jelly"))
                misses.append(mean_square(path(throw, material()), known[test, i]))
            told.append(f"{test} {sum(misses) / len(misses):.1e}")
        return ", ".join(told)

    some = ("reconstruction", "time", "velocity", "geometry", "boundary", "coupled")
    print("jelly, mean squared position error [m^2] over each test")
    print("  the network:", errors(lambda: learned("jelly"), some), flush=True)
    explanation = explain("neural/jelly", strain=STRAIN)
    explanation.write(args.formula)
    print("\n".join("  | " + line for line in explanation.lines()))
    print("  its formula:", errors(lambda: make_material(read_material_file(args.formula)), some), flush=True)
    true, ends = pool(TRUE)
    print(f"{POOL}, in 2D, mean squared position error [m^2]")
    for words, names in (
        ("jelly and water learned", {"jelly": "neural/jelly", "water": "neural/water"}),
        ("jelly learned, water true", {"jelly": "neural/jelly", "water": TRUE["water"]}),
        ("jelly true, water learned", {"jelly": TRUE["jelly"], "water": "neural/water"}),
    ):
        found, _ = pool(names)
        told = ", ".join(f"{body} {mean_square(found[:, own], true[:, own]):.1e}" for body, own in ends.items())
        print(f"  {words}: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
