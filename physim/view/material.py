"""Stress against stretch of materials, as a laboratory would measure them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from physim.errors import FitError, InputError
from physim.laws import Material
from physim.laws.tables import table_stress
from physim.scene.document import Where
from physim.scene.materials import MaterialSpec, make_material, read_material_file
from physim.scene.paths import find_material
from physim.view.plots import Curve, plot_curves

POINTS = 121


def plot_materials(
    names: Sequence[str], out: str | Path, *, stretch: tuple[float, float] = (0.7, 1.5), test: str = "uniaxial"
) -> Path:
    """Draw nominal stress over stretch of each material's elastic law; returns the picture's path.

    Args:
        names: material files, or names of shipped materials.
        out: picture to write.
        stretch: range of the stretch [-].
        test: uniaxial, equibiaxial, pure_shear or simple_shear (the abscissa is then the amount of shear).

    Raises:
        InputError: no material, an unknown one, a fluid, or an empty range.
    """
    if not names:
        raise InputError("name at least one material file or shipped material.")
    low, high = stretch
    if not 0 < low < high:
        raise InputError(f"stretch: the range {low:g} to {high:g} is empty; give two above 0, such as 0.7 1.5.")
    s = torch.linspace(low, high, POINTS, dtype=torch.float64)
    if test == "simple_shear":
        s = s - 1.0
    curves = []
    for name in names:
        spec = read_material_file(find_material(name, Where("command line", typed=True)))
        curves.append(Curve(s.numpy(), _stress(spec, make_material(spec), s, test) / 1e3, spec.name))
    label = "amount of shear [-]" if test == "simple_shear" else "stretch [-]"
    plot_curves(curves, out, xlabel=label, ylabel="nominal stress [kPa]", title=f"{test.replace('_', ' ')} test")
    return Path(out)


def _stress(spec: MaterialSpec, material: Material, s: torch.Tensor, test: str) -> np.ndarray:
    """Nominal stress [Pa], (m,), of a compressible body with free sides."""
    try:
        with torch.no_grad():
            return table_stress(material, test, s, incompressible=False).numpy()  # type: ignore[arg-type]
    except FitError as error:
        raise InputError(f"{spec.name} ({spec.law}) has no stress in a {test} test: {error}") from None
