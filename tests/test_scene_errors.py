"""Broken scenes: each message names the file and line, the YAML path, what was given and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_text import SCENE

from physim.scene.loader import load_scene
from physim.scene.problems import SceneError

CASES = {
    "misspelt key": ("dim: 2", "dimm: 2", "3: dimm: unknown key 'dimm'. Did you mean 'dim'?"),
    "misspelt nested key": ("material: gel", "materal: gel", "12: bodies.block.materal: unknown key"),
    "missing key": ("title: A block", "description: A block", "title: required, and missing"),
    "unknown law": ("neo_hookean", "neo_hokean", "8: materials.gel.law: unknown law 'neo_hokean'. Did you mean 'neo_"),
    "law of another kind": ("neo_hookean", "von_mises", "belongs under `inelastic:`"),
    "unknown parameter": ("nu: 0.3", "poisson: 0.3", "8: materials.gel.poisson: unknown key 'poisson'"),
    "parameter out of bounds": ("nu: 0.3", "nu: 0.7", "Poisson's ratio must be -1 to 0.5, got 0.7"),
    "missing parameter": (", nu: 0.3", "", "needs two elastic constants"),
    "missing density": (", density: 1 g/cm^3", "", "needs a `density`, because the body 'block' is made of it"),
    "laws that do not fit": (
        "density: 1 g/cm^3",
        "density: 1 g/cm^3, viscous: {law: newtonian, viscosity: 5 Pa}",
        "materials.gel.viscous.viscosity: expected a viscosity (Pa s), got '5 Pa', which is a pressure",
    ),
    "wrong unit": ("50 kPa", "50 m", "8: materials.gel.E: expected a pressure (Pa), got '50 m', which is a length"),
    "wrong type": ("gravity: [0, -9.81]", "gravity: -9.81", "5: gravity: expected a list of 2 numbers [x, y]"),
    "zero spacing": ("dx: 2 cm", "dx: 0", "4: grid.dx: must be greater than 0 m, got 0"),
    "unknown choice": ("all: slip", "all: slipp", "walls.all: got 'slipp', which is not allowed. Did you mean 'slip'"),
    "unknown material": ("material: gel", "material: gell", "no material 'gell'. Did you mean 'gel'?"),
    "unknown body": ("body: block", "body: blok", "16: observe.height.body: no body 'blok'. Did you mean 'block'?"),
    "unknown table": ("data: fall", "data: fal", "observe.height.data: no data table 'fal'. Did you mean 'fall'?"),
    "unknown kind": ("kind: position", "kind: hight", "16: observe.height: got 'hight', which is not allowed"),
    "two shapes": ("{box:", "{sphere: {center: [0, 0], radius: 1}, box:", "needs exactly one shape"),
    "NaN in data": ("[10, 149.5]", "[10, .nan]", "20: data.fall.rows[1][1]: nan is not a finite number"),
    "ragged data": ("[10, 149.5]", "[10]", "data.fall.rows[1]: expected 2 values (time, height), got 1"),
    "empty data": ("[[0, 150], [10, 149.5], [20, null]]", "[]", "data.fall: the table is empty"),
    "data of another kind": ("height: mm}", "height: Pa}", "measures a length (m), but the column 'height'"),
    "times that go back": ("[10, 149.5]", "[-10, 149.5]", "the times in 'fall' must increase"),
    "missing file": ("rows: [[0, 150], [10, 149.5], [20, null]]", "file: fall.csv", "no such file: 'fall.csv'"),
    "frames that do not fit": ("duration: 20 ms", "duration: 25 ms", "6: time.duration: 0.025 s is 2.5 frames"),
    "step that does not fit": ("dt: auto", "dt: 3 us", "such as dt ="),
    "wall off the grid": ("mirror_no_slip}", "mirror_no_slip, position: 3}", "3 m is off the grid, which spans 0 to"),
    "wall between nodes": ("mirror_no_slip}", "mirror_no_slip, position: 13 mm}", "The nearest place is 0.01 m"),
    "wall that moves across": (
        "mirror_no_slip}",
        "mirror_no_slip, velocity: [0, 1]}",
        "walls.y_min.velocity: a mirrored wall moves along itself only",
    ),
    "friction without friction": ("type: mirror_no_slip", "type: slip, friction: 1", "friction is for `type: coulomb`"),
    "wall along z in 2D": ("y_min:", "z_min:", "a 2D scene has no z walls"),
    "name with a dot": ("  gel:", "  gel.1:", "8: materials.gel.1: 'gel.1' cannot be a name: a name is made of"),
    "name with a dot: what to try": ("  gel:", "  gel.1:", "such as materials.beam.E. Try 'gel_1'."),
    "name with a bracket": ("  block:", "  block[0]:", "'block[0]' cannot be a name"),
    "name with a slash": ("  height:", "  ../height:", "16: observe.../height: '../height' cannot be a name"),
    "name with accents": ("  height:", "  H\u00f6he mm:", "'H\u00f6he mm' cannot be a name: "),
    "name without accents": ("  height:", "  H\u00f6he mm:", "Try 'Hohe_mm'."),
    "name that is a number": ("  block:", "  '1':", "Try 'body_1'."),
    "name of a table": ("  fall:", "  my fall:", "18: data.my fall: 'my fall' cannot be a name"),
    "name of a recording": ("title: A block", "title: A block\nrecordings: {5.0N: {set: {}}}", "Try 'recording_5_0N'."),
    "name of a point": (
        "kind: position, body: block, direction: [0, 1]",
        "kind: tracks, points: {p.1: [0, 0]}",
        "observe.height.points.p.1: 'p.1' cannot be a name",
    ),
    "nothing observed": (
        "observe:",
        "fit: {parameters: {materials.gel.E: {}}}\nobservations:",
        "unknown key 'observations'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_says_where_and_what(tmp_path: Path, case: str) -> None:
    old, new, told = CASES[case]
    assert old in SCENE
    path = tmp_path / "block.yaml"
    path.write_text(SCENE.replace(old, new, 1))
    with pytest.raises(SceneError) as caught:
        load_scene(path)
    assert told in str(caught.value)
    assert "block.yaml:" in str(caught.value)


def test_several_mistakes_are_told_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(SCENE.replace("dx: 2 cm", "dx: two").replace("50 kPa", "50 m").replace("all: slip", "all: slop"))
    with pytest.raises(SceneError) as caught:
        load_scene(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 problems:" and [line.split(":")[1] for line in lines[1:]] == ["4", "8", "14"]


def test_a_fit_without_a_record_is_told(tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    fit = "fit: {parameters: {materials.gel.E: {bounds: [1 kPa, 1 MPa]}}}\n"
    path.write_text(SCENE.replace(", data: fall", "") + fit)
    with pytest.raises(SceneError, match="there is no record to fit"):
        load_scene(path)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("materials.gel.G: {}", "no parameter 'G' in 'gel'"),
        ("materials.gel.E: {start: 5 kg}", "expected a pressure (Pa), got '5 kg', which is a mass"),
        ("materials.gel.E: {bounds: [1 MPa, 1 kPa]}", "is not below the upper"),
        ("materials.gel.E: {start: 5 MPa, bounds: [1 kPa, 1 MPa]}", "is outside the bounds"),
        ("materials.gel.E: {strat: 5 MPa}", "unknown key 'strat'. Did you mean 'start'?"),
    ],
)
def test_wrong_fit_entries_are_told(tmp_path: Path, entry: str, told: str) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(SCENE + "fit:\n  parameters:\n    " + entry + "\n")
    with pytest.raises(SceneError) as caught:
        load_scene(path)
    assert told in str(caught.value) and "block.yaml:23" in str(caught.value)
