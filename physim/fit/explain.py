"""A learned law as a formula: what `physim explain` tells, and the material file that it writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from physim.errors import InputError
from physim.fit.material_file import dump, entries, intervals, weights_beside
from physim.fit.quantities import interval, shown
from physim.fit.uncertainty import Estimate
from physim.laws.distil import BEYOND, LEVEL, Distilled, Formula, Misfit, distil
from physim.laws.polynomial import TERMS, WORDS, polynomial
from physim.laws.reach import Reach
from physim.scene.document import Where, display
from physim.scene.law_tables import law_params
from physim.scene.learned import LearnedSpec
from physim.scene.materials import MaterialSpec, make_material, read_material_file
from physim.scene.paths import find_material
from physim.scene.rundir import write_atomic
from physim.scene.verify import visited


@dataclass(frozen=True)
class Explanation:
    """A material's elastic law as a formula.

    Attributes:
        file: the material that was read.
        spec: the material with the formula in place of its elastic law.
        found: the formula, its intervals and errors.
        told: whether the material's file tells its strains.
    """

    file: Path
    spec: MaterialSpec
    found: Distilled
    told: bool

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The formula's values with intervals, by key."""
        f, rows = self.found.formula, (self.found.formula.values, self.found.low, self.found.high)
        return {
            name: Estimate(name, "Pa", value, low, high, 0.0, True)
            for name, value, low, high in zip(f.names, *(row.tolist() for row in rows), strict=True)
        }

    def lines(self) -> list[str]:
        """What was found, for a reader."""
        found, f = self.found, self.found.formula
        span = _span(found.reach)
        beside = [law for law in (self.spec.viscous, self.spec.inelastic) if law]
        lines = [formula_text(f), f"law: {f.law.name}"]
        lines += [
            f"  {name:12} {shown(e.value, 'Pa'):>12}   {interval(e)}"
            + (f"   {TERMS[name]}" if f.law is polynomial else "")
            for name, e in self.estimates.items()
        ]
        lines += [
            f"intervals: {100 * LEVEL:g} % of fits to resampled strains; what training left open is not in them",
            f"range: {span}" + ("" if self.told else "; assumed, because the file does not tell what training held"),
            f"error on strains not fitted:   {_words(f.held)}",
            f"error on {BEYOND:g} times larger ones: {_words(found.larger)}",
            "error by number of terms: " + ", ".join(map(_tried, found.tried)),
        ]
        return lines + ([f"kept beside it: {', '.join(beside)}"] if beside else [])

    def write(self, path: Path) -> None:
        """Write the material file of the formula, and weights of viscous and inelastic laws beside it.

        Raises:
            InputError: no .yaml file, or the one that was read.
        """
        if path.suffix not in (".yaml", ".yml"):
            raise InputError(f"{display(path)}: material files end in .yaml.")
        if path.resolve() == self.file.resolve():
            raise InputError(f"{display(path)}: this is the material that is explained; write to another file.")
        f = self.found.formula
        data = {
            "title": f"{self.spec.name}, distilled to {f.law.name}",
            "source": f"physim explain {self.file.name}; {formula_text(f)}",
            "valid": f"{_span(self.found.reach)}; stress error by distilling {_percent(f.held.worse)}, on strains "
            f"{BEYOND:g} times larger {_percent(self.found.larger.worse)}",
            **entries(self.spec, {}, weights=weights_beside(self.spec, path)),
            "intervals": intervals(self.spec, self.estimates),
        }
        learned = self.spec.learned
        if learned is not None:
            data["learned"] = learned.written()
        write_atomic(path, dump(data))


def explain(name: str, *, strain: float | None = None, tolerance: float = 0.01) -> Explanation:
    """Distil the elastic law of a material file.

    Args:
        name: a material file, or the name of a shipped material.
        strain: largest norm of the Hencky strain to fit; the range that the file tells unless given, or 0.25.
        tolerance: largest error of the stress that is good enough [-].

    Raises:
        InputError: no such material, a law that has no such formula, or impossible options.
    """
    if strain is not None and not 0.0 < strain < 5.0:
        raise InputError(f"strain = {strain:g} is not a range of strains; give a number above 0, such as 0.3.")
    if not 0.0 < tolerance < 1.0:
        raise InputError(f"tolerance = {tolerance:g} is not an error; give a share between 0 and 1, such as 0.01.")
    path = find_material(name, Where("command line", typed=True))
    spec = read_material_file(path)
    reach = visited(spec)
    told = strain is not None or (spec.learned is not None and spec.learned.reach is not None)
    if strain is not None:
        reach = reach.times(strain / reach.strain)
    found = distil(make_material(spec), reach, tolerance=tolerance)
    return Explanation(path, _with_formula(spec, found, path.name), found, told)


def formula_text(formula: Formula) -> str:
    """The energy with numbers and units."""
    values = dict(zip(formula.names, formula.values.tolist(), strict=True))
    if formula.law is not polynomial:
        energy = (formula.law.energy.__doc__ or "").partition("Energy ")[2].partition(" [J/m^3]")[0]
        return ", ".join([energy, *(f"{name} = {shown(value, 'Pa')}" for name, value in values.items())])
    text = ""
    for name, value in values.items():
        sign = ("-" if value < 0 else "") if not text else (" - " if value < 0 else " + ")
        text += f"{sign}{shown(abs(value), 'Pa')} {TERMS[name]}"
    used = [w for w in WORDS.split(", ") if any(w.split(" ")[0] in TERMS[name] for name in values)]
    return f"psi = {text}; {', '.join(used)}"


def _with_formula(spec: MaterialSpec, found: Distilled, name: str) -> MaterialSpec:
    f = found.formula
    table = law_params(f.law)
    added = {k: v for k, v in spec.values.items() if "." in k}
    values = dict(zip(f.names, f.values.tolist(), strict=True))
    learned = LearnedSpec(found.reach.strain, found.reach.volume, f.held.worse, f"physim explain {name}")
    params = {key: table[key] for key in values} | {key: spec.params[key] for key in added}
    law = f.law.name
    return replace(spec, law=law, network=None, values=values | added, params=params, learned=learned)


def _span(reach: Reach) -> str:
    low, high = reach.volume
    return f"Hencky strains to {reach.strain:.3g}, J {low:.3g} to {high:.3g}"


def _words(misfit: Misfit) -> str:
    return f"shear stress {_percent(misfit.shear)}, pressure {_percent(misfit.pressure)}"


def _tried(formula: Formula) -> str:
    law = "" if formula.law is polynomial else f" ({formula.law.name})"
    return f"{len(formula.names)}: {_percent(formula.held.worse)}{law}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share > 1e-8 else "0 %"
