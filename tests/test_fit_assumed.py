"""Assumed numbers: how far a fit would follow them, and the intervals that hold it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from fit_scenes import bounce

from physim.errors import InputError, SimulationError
from physim.fit.assumptions import Varied, _change, changes, make_assumptions
from physim.fit.cells import other_grids
from physim.fit.run import fit_scene, make_problem
from physim.fit.settings import make_space
from physim.observe.record import Comparison
from physim.scene.loader import load_scene
from physim.scene.materials import read_material_file
from physim.scene.schema import scene_schema

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return bounce(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def result(path, tmp_path_factory):
    changes = ["fit.assumed={materials.jelly.density: 50 kg/m^3}"]
    return fit_scene(path, changes, out=tmp_path_factory.mktemp("runs"), quiet=True)


def test_stiffness_follows_an_assumed_density_in_proportion(result):
    # Motion without forces but weight depends on E / density alone.
    (density,) = result.assumptions
    moves = result.moves(density)
    assert moves["materials.jelly.E"] == pytest.approx(0.05 * result.values["materials.jelly.E"], rel=0.03)
    assert abs(moves["bodies.block.velocity.y"]) < 1e-4


def test_the_prediction_is_what_another_fit_finds(path, result):
    denser = fit_scene(path, ["materials.jelly.density=1050"], out=None, quiet=True)
    found = denser.values["materials.jelly.E"] - result.values["materials.jelly.E"]
    assert result.moves(result.assumptions[0])["materials.jelly.E"] == pytest.approx(found, rel=0.05)


def test_intervals_add_in_squares_and_never_shrink(result):
    noise, both = (u[0] for u in (result.uncertainty.estimates, result.uncertainty.combined))
    widths = [0.5 * math.log(e.high / e.low) for e in (noise, both)]
    shift = float(result.uncertainty.shifts[0, 0])
    assert widths[1] == pytest.approx(math.hypot(widths[0], 1.6449 * shift), rel=1e-3)
    assert both.sd == pytest.approx(math.hypot(noise.sd, shift * noise.value))
    for a, b in zip(result.uncertainty.estimates, result.uncertainty.combined, strict=True):
        assert b.low <= a.low and a.high <= b.high


def test_both_intervals_are_told(result):
    lines = "\n".join(result.lines())
    assert "from noise alone" in lines and "with what is assumed)" in lines
    assert "assumed: materials.jelly.density +50 kg/m^3 moves materials.jelly.E by 1.5" in lines
    report = (result.folder / "report.html").read_text()
    assert "noise alone" in report and "with what is assumed" in report
    text = (result.folder / "material.yaml").read_text()
    assert "noise alone" in text and "50 kg/m^3" in text
    assert read_material_file(result.folder / "material.yaml").values["E"] > 0
    told = json.loads((result.folder / "result.json").read_text())
    assert told["assumed"]["materials.jelly.density"]["sd"] == 50.0
    assert told["with_assumptions"]["materials.jelly.E"]["low"] < told["parameters"]["materials.jelly.E"]["low"]


def test_numbers_move_together_where_a_recording_has_them():
    scene = load_scene("silicone_beam")
    (length,) = make_assumptions(scene, make_space(scene))
    bare, loaded = (scene.changed(recording=r) for r in ("gravity_a", "load_a"))
    moved = length.moved(bare, -1.0)
    assert "bodies.beam.shape.box.upper.x=0.093 m" in moved and "observe.tip.points.right.x=0.0906 m" in moved
    assert len(moved) == 4 and length.moved(loaded, 1.0)[-1] == "loads.weight.position.x=0.097 m"


def test_tables_have_assumptions_too():
    scene = load_scene("rubber_treloar")
    assert scene.spec.fit is not None
    (name,) = scene.materials
    spec = scene.materials[name]
    free = next(k for k in spec.params if f"materials.{name}.{k}" not in scene.spec.fit.parameters)
    sd = 0.1 * (spec.values[free] or 1.0)
    changes = [f"fit.assumed={{materials.{name}.{free}: '{sd} {spec.params[free].dimension.unit}'}}"]
    result = fit_scene("rubber_treloar", changes, out=None, quiet=True)
    assert len(result.uncertainty.combined) == len(result.space.names)


def test_intervals_know_what_other_grids_would_find(path):
    result = fit_scene(path, ["fit.assumed={grid.dx: 6 cm}"], out=None, quiet=True)
    (cells,) = result.assumptions
    name = "materials.jelly.E"
    found = {f: fit_scene(path, [f"grid.dx={10 * f} cm"], out=None, quiet=True).values[name] for f in (1.25, 2.0)}
    alone, all_told = result.estimate(name), result.overall(name)
    assert not alone.low < found[1.25] < alone.high  # noise alone says too little
    assert all_told.low < found[1.25] < all_told.high
    # A line through the fits on other grids is what was told, to first order.
    grids = np.array([1.25, 2.0, 0.5]) * 0.1
    found[0.5] = fit_scene(path, ["grid.dx=5 cm"], out=None, quiet=True).values[name]
    logs = np.log([found[f] / result.values[name] for f in (1.25, 2.0, 0.5)])
    slope = (grids - 0.1) @ logs / ((grids - 0.1) @ (grids - 0.1))
    told = np.log1p(result.moves(cells)[name] / result.values[name])
    assert told == pytest.approx(0.06 * slope, rel=0.35)
    assert result.scatter[name] > 0.0
    assert "cells of the grid; larger ones by 60 mm would move" in "\n".join(result.lines())


@pytest.mark.parametrize(
    ("assumed", "told"),
    [
        ("{materials.jelly.dnsity: 1}", "does not state 'materials.jelly.dnsity'"),
        ("{bodies.blok.velocity.x: 1 m/s}", "Did you mean 'block'"),
        ("{materials.jelly.E: 1 kPa}", "'materials.jelly.E' is fitted"),
        ("{materials.jelly.density: 1 mm}", "expected a density"),
        ("{materials.jelly.density: 0 kg/m^3}", "above zero is needed"),
        ("{materials.jelly.density: much}", "unknown unit 'much'"),
        ("{width: {sd: 1 m, numbers: [bodies.block.shape.box.upper.x]}}", "one standard deviation above"),
    ],
)
def test_mistakes_are_told_before_the_fit(path, assumed, told):
    with pytest.raises(InputError, match=told):
        fit_scene(path, [f"fit.assumed={assumed}"], out=None, quiet=True)


def test_the_schema_knows_the_short_form():
    short = scene_schema()["$defs"]["FitPart"]["properties"]["assumed"]["additionalProperties"]["anyOf"]
    assert {"type": "number"} in short and {"type": "string"} in short


def test_changes_are_of_the_same_points():
    """Other grids bind other tracked points, and their particles are others altogether."""

    def compared(columns: tuple[str, ...], predicted: list[float], sigma: float) -> Comparison:
        row = torch.tensor([predicted], dtype=torch.float64)
        mine = torch.ones_like(row, dtype=torch.bool)
        at = torch.zeros(1, dtype=torch.float64)
        return Comparison("a", columns, "px", at, 0.0 * row, row, torch.full_like(row, sigma), mine, mine)

    here = compared(("0.u", "3.u", "7.u", "0.particle 1"), [1.0, 2.0, 3.0, 4.0], 0.5)
    other = compared(("3.u", "7.u", "9.u", "0.particle 1"), [2.5, 3.0, 9.0, 9.0], 2.0)
    assert _change(here, other).tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_a_grid_that_the_time_step_does_not_suit_is_left_out(path):
    """The finer grids need smaller substeps than the one that the scene asks for."""
    problem = make_problem(load_scene(path, ["time={duration: 0.32 s, frame: 8 ms, dt: 8 ms}"]))
    assert [by for _, by in other_grids(problem)] == pytest.approx([1 / 4, 2 / 3])


def test_values_that_cannot_be_simulated_are_told():
    def compared(value: float) -> Comparison:
        row = torch.tensor([[value]], dtype=torch.float64)
        mine = torch.ones_like(row, dtype=torch.bool)
        return Comparison("a", ("y",), "m", torch.zeros(1).double(), 0.0 * row, row, torch.ones_like(row), mine, mine)

    class Fixed:
        recordings = ("",)

        def __init__(self, value: float | None) -> None:
            self.value = value

        def predict(self, recording: str, raw: torch.Tensor) -> list[Comparison]:
            if self.value is None:
                raise SimulationError("too fast.")
            return [compared(self.value)]

    some = Varied("density", (Fixed(3.0), Fixed(None)), (1.0, -1.0))
    none = Varied("grid.dx", (Fixed(None),), (0.4,), scatter=True)
    found = changes([some, none], torch.zeros(1), [compared(1.0)], threads=1)
    assert found.columns[0].tolist() == [[[2.0]]] and found.simulated == [True, False]
    assert "1 of 2 other values could be simulated: too fast." in found.notes[0]
    assert "leave out what is assumed of grid.dx" in found.notes[1]
