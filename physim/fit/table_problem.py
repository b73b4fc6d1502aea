"""Stress-stretch tests as a problem: closed-form curves, and paths in time, without simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import FitError
from physim.fit.problem import Problem, Rejected
from physim.fit.space import Space
from physim.laws import Material
from physim.laws.native import theta_columns
from physim.laws.neural.flat import with_weights
from physim.laws.paths import StretchPath
from physim.laws.tables import table_deformation, table_stress
from physim.observe.record import Comparison
from physim.scene.loader import Scene
from physim.scene.materials import make_material
from physim.scene.parameters import NETWORK_PATHS
from physim.scene.spec_measure import TablePart

SMALLEST_SHARE = 0.01
"""With `scale: each`, stresses below this share of the largest count as that large."""


@dataclass(frozen=True)
class StressTest:
    """One test of one material.

    Attributes:
        name: name in the scene.
        part: kind of test, measure, weight.
        stretch: stretch [-], or amount of shear [-], (m,).
        time: of the rows [s], (m,), where the test is a path; else None.
        stress: measured [Pa], (m,).
        sigma: what residuals are divided by [Pa], (m,).
    """

    name: str
    part: TablePart
    stretch: Tensor
    time: Tensor | None
    stress: Tensor
    sigma: Tensor

    @property
    def label(self) -> str:
        """Name and unit of the abscissa."""
        if self.time is not None:
            return "time [s]"
        return "amount of shear [-]" if self.part.test == "simple_shear" else "stretch [-]"


class TableProblem(Problem):
    """Fit the tables of a scene; each table is one recording, those with `role: holdout` are only scored."""

    exact_jacobian = True

    def __init__(self, scene: Scene, space: Space) -> None:
        self.scene, self.space = scene, space
        self.tests = {name: _read(scene, name, part) for name, part in scene.spec.tables.items()}
        self.recordings = tuple(n for n, t in self.tests.items() if t.part.role == "fit")
        self.held_recordings = tuple(n for n, t in self.tests.items() if t.part.role == "holdout")
        if not self.recordings:
            raise FitError(f"{scene.name}: every table is held out; at least one must have `role: fit`.")
        self._paths: dict[str, StretchPath] = {}
        self._values = {n: dict(m.values) for n, m in scene.materials.items()}
        self._materials = {
            t.part.material: make_material(scene.materials[t.part.material]) for t in self.tests.values()
        }

    def predict(self, recording: str, raw: Tensor, *, end: float | None = None) -> list[Comparison]:
        """The test's curve at raw parameters.

        Raises:
            Rejected: no stress-free thickness exists for a compressible law at these parameters.
        """
        test = self.tests[recording]
        material = self._materials[test.part.material]
        theta = self._theta(test.part.material, material, raw)
        try:
            stress = self._stress(test, material, theta)
        except FitError as error:
            raise Rejected(str(error)) from None
        shape = (len(test.stretch), 1)
        everywhere = torch.ones(shape, dtype=torch.bool)
        return [
            Comparison(
                name=recording,
                columns=(test.part.measure,),
                unit="Pa",
                at=test.stretch if test.time is None else test.time,
                measured=test.stress[:, None],
                predicted=stress[:, None],
                sigma=test.sigma[:, None],
                fitted=everywhere if test.part.role == "fit" else ~everywhere,
                valid=everywhere,
                huber=None,
                weight=test.part.weight,
                label=test.label,
            )
        ]

    def _stress(self, test: StressTest, material: Material, theta: Tensor) -> Tensor:
        part = test.part
        if test.time is not None:
            return self._path(test, test.time, material).stress(theta)
        return table_stress(
            material,
            part.test,
            test.stretch,
            incompressible=part.incompressible,
            measure=part.measure,
            theta=theta,
        )

    def _path(self, test: StressTest, time: Tensor, material: Material) -> StretchPath:
        part = test.part
        if test.name not in self._paths:
            path = StretchPath(
                material,
                part.test,
                test.stretch,
                time,
                incompressible=part.incompressible,
                measure=part.measure,
            )
            # By the scene alone, not by what happens to be asked for first: a resumed fit has the same steps.
            start = self._theta(part.material, material, self.space.start())
            self._paths[test.name] = path.begun(start)
        return self._paths[test.name]

    def deformations(self, recording: str, raw: Tensor) -> Tensor:
        """Deformation gradients of a test's rows at raw parameters, (m, 3, 3); of plastic solids the elastic part.

        Sides that are free in a test in time are where its viscous stress and its history leave them.

        Raises:
            Rejected: no stress-free thickness exists for a compressible law at these parameters.
        """
        test = self.tests[recording]
        part, material = test.part, self._materials[test.part.material]
        with torch.no_grad():
            theta = self._theta(part.material, material, raw)
            try:
                if test.time is not None:
                    return self._path(test, test.time, material).deformation(theta)
                incompressible = part.incompressible
                return table_deformation(material, part.test, test.stretch, incompressible=incompressible, theta=theta)
            except FitError as error:
                raise Rejected(str(error)) from None

    def moved(self, overrides: Callable[[Scene], Sequence[str]]) -> Problem:
        """The same tables with other numbers of the scene."""
        return TableProblem(self.scene.changed(overrides(self.scene)), self.space)

    def _theta(self, name: str, material: Material, raw: Tensor) -> Tensor:
        """Native parameters (1, k) with the fitted values and weights in place."""
        prefix = f"materials.{name}."
        named = self.space.named(raw)
        fitted = {n.removeprefix(prefix): v for n, v in named.items() if n.startswith(prefix)}
        every = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in self._values[name].items()} | fitted
        bare = {k.rpartition(".")[2]: v for k, v in every.items()}
        weights = self.space.weights(raw)
        networks = [
            with_weights(network, weights[prefix + path]) if prefix + path in weights else network
            for path, network in zip(NETWORK_PATHS, material.networks, strict=True)
        ]
        return theta_columns(material.laws, bare, networks)


def _read(scene: Scene, name: str, part: TablePart) -> StressTest:
    table = scene.tables[part.data]
    strain_name, stress_name = part.named(table.columns)
    stretch, stress = (torch.as_tensor(table.column(str(c))) for c in (strain_name, stress_name))
    keep = torch.isfinite(stretch) & torch.isfinite(stress)
    time = None if part.time is None else torch.as_tensor(table.column(part.time))
    if time is not None:
        keep &= torch.isfinite(time)
        time = time[keep]
    stretch, stress = stretch[keep], stress[keep]
    if part.rate is not None and len(stretch):
        rest = stretch.new_tensor([0.0 if part.test == "simple_shear" else 1.0])
        time = torch.cat([rest, stretch]).diff().abs().cumsum(0) / part.rate
    if len(stretch) == 0:
        raise scene.error(("tables", name), f"the table '{part.data}' has no complete row")
    largest = float(stress.abs().max())
    if not largest > 0:
        raise scene.error(("tables", name), f"every stress in '{part.data}' is zero")
    sigma = torch.full_like(stress, 1.0 if part.scale == "none" else largest)
    if part.scale == "each":
        sigma = stress.abs().clamp_min(SMALLEST_SHARE * largest)
    return StressTest(name, part, stretch, time, stress, sigma)
