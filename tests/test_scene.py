"""Units, YAML with line numbers, overrides, includes, tables, run folders, and scenes to models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scene_text import SCENE, read_log

from physim.errors import InputError
from physim.scene import units
from physim.scene.document import read_document
from physim.scene.loader import load_scene
from physim.scene.materials import read_material_file
from physim.scene.parameters import fittable, free_number
from physim.scene.problems import SceneError
from physim.scene.resolved import write_resolved
from physim.scene.rundir import append_jsonl, new_run_folder, write_atomic


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    path = tmp_path / "block.yaml"
    path.write_text(SCENE)
    return path


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("50 kPa", units.PRESSURE, 5e4),
        ("3 GPa", units.PRESSURE, 3e9),
        ("1 N/mm2", units.PRESSURE, 1e6),
        ("5 J/m^3", units.PRESSURE, 5.0),
        ("1 mm", units.LENGTH, 1e-3),
        ("-3mm", units.LENGTH, -3e-3),
        ("5 ms", units.TIME, 5e-3),
        ("1000 kg/m^3", units.DENSITY, 1000.0),
        ("1 g/cm3", units.DENSITY, 1000.0),
        ("0.1 Pa s", units.VISCOSITY, 0.1),
        ("5 mPa*s", units.VISCOSITY, 5e-3),
        ("9.81 m/s²", units.ACCELERATION, 9.81),
        ("9.81 m s^-2", units.ACCELERATION, 9.81),
        ("60 rpm", units.SPIN, 2 * math.pi),
        ("4 1/s", units.SPIN, 4.0),
        ("20 deg", units.ANGLE, math.radians(20)),
        (20, units.ANGLE, math.radians(20)),
        ("0.5 rad", units.ANGLE, 0.5),
        ("5 %", units.NUMBER, 0.05),
        ("1e-3", units.LENGTH, 1e-3),
        (7, units.MASS, 7.0),
    ],
)
def test_quantities_come_out_in_si(text: object, dimension: units.Dimension, value: float) -> None:
    assert units.parse(text, dimension) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "dimension", "told"),
    [
        ("5 m", units.PRESSURE, "expected a pressure (Pa), got '5 m', which is a length"),
        ("5 kpa", units.PRESSURE, "Did you mean 'kPa'?"),
        ("5 foo", units.PRESSURE, "unknown unit 'foo'"),
        ("soft", units.PRESSURE, "write a number or text such as '2 Pa'"),
        ("1,5 m", units.LENGTH, "unknown unit ','"),
        (float("nan"), units.LENGTH, "not a finite number"),
        ("1e400 m", units.LENGTH, "not a finite number"),
        (True, units.LENGTH, "expected a length (m), got True"),
        ("1 m/", units.LENGTH, "cannot read the unit"),
        ("3 rad", units.NUMBER, "which is an angle"),
    ],
)
def test_wrong_quantities_are_told(text: object, dimension: units.Dimension, told: str) -> None:
    with pytest.raises(units.UnitError) as caught:
        units.parse(text, dimension)
    assert told in str(caught.value)


def test_written_quantities_are_read_back() -> None:
    for dimension in units.DIMENSIONS:
        assert units.parse(units.written(1.234, dimension), dimension) == pytest.approx(1.234, rel=1e-5)
        assert units.dimension_of(dimension.unit) == dimension


def test_a_scene_is_read_in_si(scene_file: Path) -> None:
    scene = load_scene(scene_file)
    assert scene.spec.grid is not None and scene.spec.grid.dx == 0.02
    assert scene.materials["gel"].values == {"E": 5e4, "nu": 0.3}
    assert scene.materials["gel"].density == 1000.0
    assert scene.spec.observe["height"].noise == 1e-3
    table = scene.tables["fall"]
    assert list(table.column("time")) == [0.0, 0.01, 0.02]
    assert table.column("height")[1] == pytest.approx(0.1495) and math.isnan(table.column("height")[2])
    assert str(scene.where(("materials", "gel", "E"))).endswith("block.yaml:8")
    assert not scene.warnings


def test_yaml_12_numbers_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_text("a: 1e-3\nb: yes\nc: 0o17\nd:\n  - 1\n  - {e: 2}\n")
    document = read_document(path)
    assert document.data == {"a": 1e-3, "b": "yes", "c": 15, "d": [1, {"e": 2}]}
    assert document.where(("d", 1, "e")).line == 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2\n", "x.yaml:2:"),
        ("a: [1, 2\nb: 3\n", "not YAML"),
        ("a:\n\t- 1\n", "spaces, not tabs"),
        ("", "empty"),
        ("- 1\n", "expected `key: value` lines"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("1: 2\n", "must be text"),
    ],
)
def test_bad_yaml_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.yaml") as caught:
        read_document(path)
    assert told in str(caught.value)


def test_overrides_are_validated_like_the_file(scene_file: Path) -> None:
    scene = load_scene(scene_file, ["materials.gel.E=80kPa", "bodies.block.velocity.x=2", "walls.y_min=stick"])
    assert scene.materials["gel"].values["E"] == 8e4
    assert scene.spec.bodies["block"].velocity == (2.0, 0.0)
    assert scene.spec.walls.y_min is not None and scene.spec.walls.y_min.type == "stick"
    with pytest.raises(SceneError, match=r"^--set materials.gel.E=80kg: materials.gel.E: expected a pressure"):
        load_scene(scene_file, ["materials.gel.E=80kg"])
    with pytest.raises(InputError, match="Did you mean 'gel'"):
        load_scene(scene_file, ["materials.gell.E=80kPa"])
    with pytest.raises(InputError, match="expected PATH=VALUE"):
        load_scene(scene_file, ["materials.gel.E"])


def test_materials_are_included_by_name_and_by_file(scene_file: Path, tmp_path: Path) -> None:
    assert load_scene(scene_file, ["materials.gel=jelly"]).materials["gel"].law == "fixed_corotated"
    (tmp_path / "mine.yaml").write_text("law: hencky\nE: 2 MPa\nnu: 0.2\ndensity: 900\n")
    scene = load_scene(scene_file, ["materials.gel={include: mine.yaml, E: 1 MPa}"])
    spec = scene.materials["gel"]
    assert (spec.law, spec.values["E"], spec.values["nu"], spec.density) == ("hencky", 1e6, 0.2, 900.0)
    assert read_material_file(tmp_path / "mine.yaml").values["E"] == 2e6
    scene_file.write_text(SCENE.replace("{law: neo_hookean", "{include: mine.yaml, law: neo_hookean"))
    assert load_scene(scene_file).materials["gel"].values == {"E": 5e4, "nu": 0.3}


def test_paths_stay_in_the_folder_of_the_scene(scene_file: Path, tmp_path: Path) -> None:
    inside = tmp_path / "sub"
    inside.mkdir()
    scene = inside / "s.yaml"
    (tmp_path / "t.csv").write_text("time,height\n0,0.15\n")
    rows = "    rows: [[0, 150], [10, 149.5], [20, null]]\n"
    for bad in ("../t.csv", str(tmp_path / "t.csv"), "~/t.csv"):
        scene.write_text(SCENE.replace(rows, f"    file: {bad}\n"))
        with pytest.raises(SceneError, match="leads out of the scene's folder"):
            load_scene(scene)
    (inside / "link.csv").symlink_to(tmp_path / "t.csv")
    scene.write_text(SCENE.replace(rows, "    file: link.csv\n"))
    with pytest.raises(SceneError, match="link that leads out"):
        load_scene(scene)
    scene.write_text(SCENE)
    found = load_scene(scene, data=[f"fall={tmp_path / 't.csv'}"])
    assert found.tables["fall"].values.shape == (1, 2)


def test_recordings_change_the_scene(scene_file: Path) -> None:
    scene_file.write_text(
        SCENE + "recordings:\n  soft: {set: {materials.gel.E: 10 kPa}}\n  hard: {set: {materials.gel.E: 90 kPa}}\n"
    )
    scene = load_scene(scene_file)
    assert scene.changed(recording="soft").materials["gel"].values["E"] == 1e4
    assert scene.changed(["materials.gel.nu=0.4"], recording="hard").materials["gel"].values == {"E": 9e4, "nu": 0.4}
    with pytest.raises(InputError, match="Did you mean 'soft'"):
        scene.changed(recording="sofd")


def test_every_number_that_can_be_fitted_has_a_dimension(scene_file: Path) -> None:
    scene = load_scene(scene_file)
    for name in fittable(scene.spec, scene.materials):
        number = free_number(scene.spec, scene.materials, name)
        assert number.lower < number.upper and math.isfinite(number.value)
    assert free_number(scene.spec, scene.materials, "materials.gel.E").dimension is units.PRESSURE
    assert free_number(scene.spec, scene.materials, "bodies.block.velocity.x").value == 1.0


def test_the_resolved_scene_runs_again(scene_file: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# measured\ntime,height\n0,150\n10,149\n")
    scene = load_scene(scene_file, ["materials.gel=jelly", "grid.dx=1cm"], data=[f"fall={tmp_path / 't.csv'}"])
    folder = tmp_path / "run"
    folder.mkdir()
    again = load_scene(write_resolved(scene, folder))
    assert again.materials == scene.materials and again.spec.grid == scene.spec.grid
    assert (again.tables["fall"].values == scene.tables["fall"].values).all()


def test_run_folders_never_collide_and_files_are_whole(tmp_path: Path) -> None:
    one, two = new_run_folder("a b", tmp_path), new_run_folder("a b", tmp_path)
    assert one != two and one.name.startswith("a_b-")
    write_atomic(one / "x.txt", "old")
    write_atomic(one / "x.txt", "new")
    assert (one / "x.txt").read_text() == "new" and [p.name for p in one.iterdir()] == ["x.txt"]
    log = one / "log.jsonl"
    append_jsonl(log, {"a": float("nan"), "b": 1})
    with log.open("a") as stream:
        stream.write('{"cut": 1')
    append_jsonl(log, {"c": 2})
    assert read_log(log) == [{"a": "nan", "b": 1}, {"c": 2}]
    with pytest.raises(InputError, match="cannot make the folder"):
        new_run_folder("x", log)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("materials.gel.E=0.5", "softer than any solid"),
        ("materials.gel.density=1", "Did you mean 1 g/cm^3?"),
        ("grid.dx=1", "bare numbers are metres"),
        ("gravity=[0, -9810]", "is this in mm?"),
    ],
)
def test_suspicious_bare_numbers_warn(scene_file: Path, override: str, told: str) -> None:
    warnings = load_scene(scene_file, [override]).warnings
    assert len(warnings) == 1 and told in warnings[0] and override.split("=")[0] in warnings[0]


def test_a_value_with_its_unit_is_taken_at_its_word(scene_file: Path) -> None:
    assert not load_scene(scene_file, ["materials.gel.E=0.5 Pa", "materials.gel.density=1 kg/m^3"]).warnings


def test_the_json_schema_knows_laws_and_units() -> None:
    from physim.scene.schema import scene_schema

    schema = scene_schema()
    material = schema["$defs"]["MaterialPart"]["properties"]
    assert "neo_hookean" in material["law"]["enum"] and "Young" in material["E"]["description"]
    assert "von_mises" in material["inelastic"]["anyOf"][0]["enum"]
    assert schema["additionalProperties"] is False and "title" in schema["required"]
    for section in ("materials", "bodies", "observe", "recordings"):
        entry = schema["properties"][section]
        assert list(entry["patternProperties"]) == ["^[A-Za-z][A-Za-z0-9_-]*$"] and not entry["additionalProperties"]


def test_columns_may_count_frames(scene_file: Path) -> None:
    table = load_scene(scene_file, ["data.fall.columns.time=10 ms"]).tables["fall"]
    assert table.column("time")[1] == pytest.approx(0.1) and table.dimensions[0] is units.TIME


def test_the_documented_scene_is_sound(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "scene.md").read_text()
    path = tmp_path / "documented.yaml"
    path.write_text(text.split("```yaml\n")[1].split("```")[0])
    assert load_scene(path).materials["jelly"].viscous == "kelvin_voigt"


def test_the_starter_is_sound(tmp_path: Path) -> None:
    from physim.scene.starter import write_starter

    write_starter(tmp_path / "first.yaml")
    scene = load_scene(tmp_path / "first.yaml")
    assert not scene.warnings and scene.materials["jelly"].values["E"] == 5e4


def test_the_doctor_tells_memory_versions_and_compiled_kernels() -> None:
    from physim.scene.doctor import examine

    told = dict(examine())
    assert "GiB free" in told["memory"] or told["memory"].startswith("unknown")
    assert "compile" in told["kernel cache"] and told["torch"] != "missing" and "cpu" in told["device"]
