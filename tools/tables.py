"""Learned and textbook laws on measured stress-stretch tables: what they describe, and what they predict.

`python -m tools.tables` fits every law to some tests of a material in the same way (`physim fit`: incompressible,
residuals over each test's largest stress) and prints R2 and the root mean square error over the largest stress of every
test; a star marks tests that were not fitted. Learned laws are drawn with several seeds: the median is told, and the
worst. Rubber is in the scene `rubber_treloar_neural`; brain needs the tables under $PHYSIM_DATA.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUBBER, BRAIN = "Vulcanised rubber, Treloar 1944, 20 C", "Human brain, Budday 2017"
COLUMNS = {"axial": ("stretch", "nominal_stress"), "shear": ("amount", "shear_stress")}


@dataclass(frozen=True)
class Candidate:
    """A law as a table row.

    Attributes:
        label: in the first column.
        entries: pressures of the material as shares of its shear modulus.
        free: what is fitted.
        plain: entries that are no pressures.
        starts: factors on positive values.
        learned: whether it is drawn with seeds.
    """

    label: str
    entries: dict[str, float]
    free: tuple[str, ...]
    plain: dict[str, Any] = field(default_factory=dict)
    starts: tuple[float, ...] = (1.0,)
    learned: bool = False

    def material(self, modulus: float, seed: int) -> dict[str, Any]:
        """The entry of a scene."""
        made = {name: value * modulus for name, value in self.entries.items()} | self.plain
        if self.learned:
            made["network"] = {**self.plain["network"], "seed": seed}
        return made


def textbook(label: str, entries: dict[str, float], plain: dict[str, Any] | None = None, **more: Any) -> Candidate:
    """A law of a few numbers, all of them fitted."""
    numbers = (*entries, *(plain or {}))
    return Candidate(label, entries | {"bulk_modulus": 1e3}, numbers, {"law": label, **(plain or {})}, **more)


def learned(label: str, law: str, **network: Any) -> Candidate:
    """A law with weights, of which modulus and weights are fitted."""
    bulk = "lam" if network.get("encoder") == "hencky" else "bulk_modulus"
    entries, plain = {"mu": 1.0, bulk: 1e3}, {"law": law, "network": network}
    return Candidate(label, entries, ("mu", "network"), plain, learned=True)


LEARNED = (
    learned("cann, convex", "cann", convex=True),
    learned("cann", "cann"),
    learned("neural_energy, convex", "neural_energy", hidden=8, convex=True),
    learned("neural_energy", "neural_energy", hidden=8),
    learned("neural_energy, hencky", "neural_energy", hidden=8, encoder="hencky"),
)


def candidates(alpha: float, locking: float) -> tuple[Candidate, ...]:
    """The rows of a table.

    Args:
        alpha: first exponent of Ogden's laws to start from.
        locking: Gent's limit of I1 - 3 to start from.
    """
    return (
        Candidate("neo_hookean", {"mu": 1.0, "lam": 1e3}, ("mu",), {"law": "neo_hookean"}),
        textbook("mooney_rivlin", {"c10": 0.4, "c01": 0.1}, starts=(1.0, 0.3)),
        textbook("yeoh", {"c1": 0.5, "c2": -0.5 / locking, "c3": 0.5 / locking**2}),
        textbook("gent", {"mu": 1.0}, {"locking": locking}),
        textbook("ogden_1", {"mu_1": 1.0}, {"alpha_1": alpha}),
        textbook("ogden_2", {"mu_1": 0.9, "mu_2": 0.1}, {"alpha_1": alpha, "alpha_2": -alpha}),
        textbook(
            "ogden_3", {"mu_1": 1.0, "mu_2": 0.03, "mu_3": 0.03}, {"alpha_1": alpha, "alpha_2": 5.0, "alpha_3": -2.0}
        ),
        *LEARNED,
    )


@dataclass(frozen=True)
class Study:
    """Tests of one material, and which of them are fitted.

    Attributes:
        title: above its table.
        tests: entries of a scene's `tables`, by name.
        data: entries of its `data`, by name.
        fitted: names of the tests that are fitted.
        modulus: shear modulus to start from [Pa].
        rows: the laws.
    """

    title: str
    tests: dict[str, dict[str, Any]]
    data: dict[str, dict[str, Any]]
    fitted: tuple[str, ...]
    modulus: float
    rows: tuple[Candidate, ...]

    def scene(self, row: Candidate, seed: int, iterations: int) -> dict[str, Any]:
        """A scene that fits one law."""
        tests = {
            name: {**test, "material": "m", "role": "fit" if name in self.fitted else "holdout"}
            for name, test in self.tests.items()
        }
        free = {f"materials.m.{name}": {} for name in row.free}
        return {
            "title": self.title,
            "solver": "none",
            "materials": {"m": row.material(self.modulus, seed)},
            "tables": tests,
            "data": self.data,
            "fit": {"parameters": free, "iterations": iterations, "starts": list(row.starts)},
        }


def rubber() -> list[Study]:
    """Treloar's three tests: two predict the third, one predicts the two others."""
    from physim.scene.loader import load_scene

    document = load_scene("rubber_treloar_neural").document.data
    tests = {n: {"test": n, "data": n} for n in ("uniaxial", "equibiaxial", "pure_shear")}
    pairs = (("uniaxial", "equibiaxial"), ("uniaxial",), ("equibiaxial",))
    return [Study(RUBBER, tests, document["data"], fitted, 3e5, candidates(1.5, 90.0)) for fitted in pairs]


def brain(folder: Path) -> list[Study]:
    """Cortex and basal ganglia: compression, tension and shear at once, and shear from the other two."""
    studies = []
    for region, code in (("cortex", "CX"), ("basal ganglia", "BG")):
        axial = _rows(folder / f"brain/budday2017_{code}_compression_tension.csv")
        shear = _rows(folder / f"brain/budday2017_{code}_shear.csv")
        parts = {
            "compression": [r for r in axial if r[0] <= 1.0],
            "tension": [r for r in axial if r[0] >= 1.0],
            "shear": shear,
        }
        data, tests = {}, {}
        for name, rows in parts.items():
            strain, stress = COLUMNS["shear" if name == "shear" else "axial"]
            data[name] = {"columns": {strain: "", stress: "kPa"}, "rows": rows}
            tests[name] = {"test": "simple_shear" if name == "shear" else "uniaxial", "data": name}
        for fitted in (tuple(parts), ("compression", "tension")):
            title = f"{BRAIN}, {region}"
            studies.append(Study(title, tests, data, fitted, 500.0, candidates(-10.0, 0.5)))
    return studies


def measure(study: Study, row: Candidate, seed: int, iterations: int) -> dict[str, tuple[float, float]]:
    """R2 and relative root mean square error of every test, after a fit with one seed."""
    from physim.errors import PhysimError
    from physim.fit.material_file import dump
    from physim.fit.run import fit_scene
    from physim.fit.scores import score

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(dump(study.scene(row, seed, iterations)))
        try:
            result = fit_scene(path, out=None, quiet=True, threads=1)
        except PhysimError as error:
            sys.stderr.write(f"{row.label}: {error}\n")
            return {name: (float("nan"), float("nan")) for name in study.tests}
    size = {c.name: float(c.measured.abs().max()) for c in result.comparisons}
    return {s.name: (s.r2, s.rms / size[s.name]) for s in score(result.comparisons)}


def compare(study: Study, seeds: int, iterations: int) -> list[dict[str, Any]]:
    """One record per law: every test's R2 and error, of every seed."""
    found = []
    for row in study.rows:
        runs = [measure(study, row, seed, iterations) for seed in range(seeds if row.learned else 1)]
        record: dict[str, Any] = {"study": study.title, "fitted": list(study.fitted), "law": row.label}
        record["tests"] = {
            n: {"r2": [r[n][0] for r in runs], "error": [r[n][1] for r in runs], "fitted": n in study.fitted}
            for n in study.tests
        }
        found.append(record)
        sys.stdout.write(line(record) + "\n")
        sys.stdout.flush()
    return found


def line(record: dict[str, Any]) -> str:
    """A record as a row: median R2 and error, and the worst error of several seeds in brackets."""
    cells = []
    for test in record["tests"].values():
        worst = f" ({100 * max(test['error']):.1f})" if len(test["error"]) > 1 else ""
        error, r2 = statistics.median(test["error"]), statistics.median(test["r2"])
        r2 = max(r2, -99.0)
        cells.append(f"{r2:8.4f} {100 * error:5.1f} %{worst:>8}{' ' if test['fitted'] else '*'}")
    return f"{record['law']:22} " + "  ".join(f"{c:26}" for c in cells)


def _rows(path: Path) -> list[list[float]]:
    lines = [text for text in path.read_text().splitlines() if not text.startswith("#")][1:]
    return [[float(v) for v in text.split(",")] for text in lines]


def main(argv: list[str] | None = None) -> int:
    """Print the tables; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.tables", description=__doc__)
    parser.add_argument("--materials", nargs="+", default=["rubber", "brain"], choices=["rubber", "brain"])
    parser.add_argument("--seeds", type=int, default=3, help="draws of each learned law")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args(argv)
    from tools.validation.report import data_folder

    studies = rubber() if "rubber" in given.materials else []
    if "brain" in given.materials:
        folder = data_folder()
        if folder is None:
            sys.exit("the tables of brain tissue are missing; set PHYSIM_DATA to the folder of published measurements.")
        studies += brain(folder)
    records = []
    for study in studies:
        head = "".join(f"{n:28}" for n in study.tests)
        sys.stdout.write(f"\n{study.title}, fitted: {', '.join(study.fitted)}\n{'R2, error (worst seed)':23}{head}\n")
        records += compare(study, given.seeds, given.iterations)
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
