"""Fitted materials as files that another scene can include."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from physim.fit.result import FitResult
from physim.fit.uncertainty import Estimate
from physim.laws.material import Material
from physim.scene.learned import LearnedSpec
from physim.scene.loader import Scene
from physim.scene.materials import MaterialSpec, material_spec
from physim.scene.rundir import file_name, write_atomic
from physim.scene.units import ANGLE, Dimension
from physim.scene.weights_file import ENDING, write_weights


def write_materials(scene: Scene, result: FitResult, folder: Path) -> list[Path]:
    """Write every material of which something was fitted: `material.yaml`, or `material_<name>.yaml` if several.

    The weights of a learned law lie beside it, under the same name with another ending; those of a viscous or
    inelastic law are named for it, `material_inelastic.safetensors`.
    The values are the fitted ones, with units; `intervals` holds the ends of their intervals. Where the scene assumes
    numbers, these intervals hold what that adds; `noise alone` in it has those without, and `assumed` the standard
    deviations.
    """
    fitted: dict[str, dict[str, Estimate]] = {}
    for estimate in result.uncertainty.estimates:
        section, _, rest = estimate.name.partition(".")
        if section == "materials":
            name, _, key = rest.partition(".")
            fitted.setdefault(name, {})[key] = estimate
    for block in result.space.blocks:
        fitted.setdefault(block.name.split(".")[1], {})
    paths = []
    for name, estimates in fitted.items():
        path = folder / ("material.yaml" if len(fitted) == 1 else f"material_{file_name(name)}.yaml")
        prefix = f"materials.{name}."
        combined = {e.name.removeprefix(prefix): e for e in result.uncertainty.combined if e.name.startswith(prefix)}
        assumed = {a.name: quantity(a.sd, a.dimension) for a in result.assumptions}
        spec = fitted_spec(scene, result, name)
        weights = weights_beside(spec, path)
        text = material_yaml(
            scene,
            spec,
            estimates,
            level=result.level,
            combined=combined,
            assumed=assumed,
            weights=weights,
        )
        write_atomic(path, text)
        paths.append(path)
    return paths


def fitted_spec(scene: Scene, result: FitResult, name: str) -> MaterialSpec:
    """A material of the scene with its fitted weights, and with what training held where its weights were fitted."""
    spec, prefix = scene.materials[name], f"materials.{name}."
    weights = {n.removeprefix(prefix): w for n, w in result.space.weights(result.raw).items() if n.startswith(prefix)}
    if not weights:
        return spec
    return replace(spec.with_weights(weights), learned=result.learned.get(name))


def material_yaml(
    scene: Scene,
    spec: MaterialSpec,
    estimates: dict[str, Estimate],
    *,
    level: float,
    combined: dict[str, Estimate] | None = None,
    assumed: dict[str, str | float] | None = None,
    weights: dict[str, str] | None = None,
) -> str:
    """One material as YAML text.

    Args:
        scene: where it was fitted.
        spec: its laws and the values that were not fitted.
        estimates: the fitted values by key, such as "E" or "viscous.viscosity".
        level: probability of the intervals.
        combined: the values with intervals that hold what is assumed, by key.
        assumed: standard deviations of the assumed numbers, by name.
        weights: files beside it that hold the weights of learned laws, by `law`, `viscous` or `inelastic`.
    """
    records = ", ".join([*scene.spec.data] or ["its records"])
    data: dict[str, Any] = {
        "title": f"{spec.name}, fitted to {scene.spec.title}",
        "source": f"physim fit {scene.file.name}, data: {records}; intervals hold {100 * level:g} %",
        **entries(spec, estimates, weights=weights),
    }
    if estimates:
        data["intervals"] = intervals(spec, combined or estimates)
    if combined:
        data["intervals"] |= {"noise alone": intervals(spec, estimates), "assumed": assumed}
    if spec.learned is not None:
        data["learned"] = spec.learned.written()
    return dump(data)


def write_learned(
    path: Path, material: Material, learned: LearnedSpec, *, title: str, source: str, valid: str | None = None
) -> Path:
    """Write a learned material as a file that any scene can include, its weights beside it.

    Args:
        path: of the file.
        material: as learned.
        learned: how, and what was checked.
        title: one line.
        source: where it is from.
        valid: where it holds.

    Raises:
        InputError: particles differ in a value.
    """
    spec = material_spec(path.stem, material)
    data: dict[str, Any] = {"title": title, "source": source} | ({"valid": valid} if valid else {})
    data |= entries(spec, {}, weights=weights_beside(spec, path))
    write_atomic(path, dump(data | {"learned": learned.written()}))
    return path


def weights_beside(spec: MaterialSpec, path: Path) -> dict[str, str]:
    """Write the weights of learned laws beside a material's file, and tell their names by part."""
    weights = {}
    for part, own in (("law", spec.network), *spec.networks.items()):
        if own is not None:
            weights[part] = f"{path.stem}{'' if part == 'law' else f'_{part}'}{ENDING}"
            write_weights(path.parent / weights[part], own.module)
    return weights


def entries(
    spec: MaterialSpec, estimates: dict[str, Estimate], *, weights: dict[str, str] | None = None
) -> dict[str, Any]:
    """Laws and values of a material as its file has them, estimates in place of the values that were fitted."""
    data: dict[str, Any] = {"law": spec.law}
    files = weights or {}
    if "law" in files:
        data["network"] = {"file": files["law"]}
    if spec.fibre is not None:
        data["fibre"] = list(spec.fibre)
    density = estimates.get("density")
    if density is not None:
        data["density"] = _written(density.value, "kg/m^3")
    elif spec.density is not None:
        data["density"] = _written(spec.density, "kg/m^3")
    for part, law in (("viscous", spec.viscous), ("inelastic", spec.inelastic)):
        if law is not None:
            data[part] = {"law": law} | ({"network": {"file": files[part]}} if part in files else {})
    for key, value in spec.values.items():
        number = estimates[key].value if key in estimates else value
        part, _, name = key.rpartition(".")
        (data[part] if part else data)[name] = quantity(number, spec.params[key].dimension)
    return data


def intervals(spec: MaterialSpec, estimates: dict[str, Estimate]) -> dict[str, Any]:
    """Ends of the intervals of estimates by key, with units."""
    return {
        key: [
            _written(end, "kg/m^3") if key == "density" else quantity(end, spec.params[key].dimension)
            for end in (e.low, e.high)
        ]
        for key, e in estimates.items()
    }


def quantity(value: float, dimension: Dimension) -> str | float:
    """A value [SI] as text with the unit that a file uses; plain numbers stay numbers."""
    if not math.isfinite(value):
        return str(value)
    if dimension.name == ANGLE.name:
        return _written(math.degrees(value), "deg")
    return _written(value, dimension.unit) if dimension.unit else float(f"{value:.8g}")


def _written(value: float, unit: str) -> str:
    return f"{value:.8g} {unit}"


def dump(data: dict[str, Any]) -> str:
    """YAML text, entries in their order."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()
