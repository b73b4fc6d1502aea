"""Every shipped scene is read, built, and gives its tested number; every shipped material is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from physim.scene.build import build
from physim.scene.catalogue import list_materials, list_scenes
from physim.scene.loader import load_scene
from physim.scene.materials import make_material, read_material_file
from physim.scene.paths import shipped_names
from physim.scene.run import run_scene

SCENES = shipped_names("scenes")
# Longer than a few seconds on two cores.
SLOW = {"multi_material", "plasticine_press", "sand_column", "dam_break", "water_drop"}


@pytest.mark.parametrize("name", SCENES)
def test_a_shipped_scene_is_sound(name: str) -> None:
    scene = load_scene(name)
    assert not scene.warnings and scene.spec.title and scene.spec.expect is not None
    if scene.spec.solver != "none":
        assert build(scene).steps > 0


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in SCENES])
def test_a_shipped_scene_gives_its_number(name: str, tmp_path: Path) -> None:
    scene = load_scene(name)
    expect = scene.spec.expect
    assert expect is not None
    if expect.quantity != "observation":
        pytest.skip("its number is that of a fit, tested with the fits")
    result = run_scene(scene, tmp_path)
    assert result.verdict is not None and result.verdict.ok, str(result.verdict)


@pytest.mark.parametrize("entry", list_materials(), ids=lambda e: e.name)
def test_a_shipped_material_is_sound(entry) -> None:
    made = make_material(read_material_file(entry.path))
    assert entry.title and made.theta().isfinite().all()


def test_every_scene_has_a_title() -> None:
    assert all(entry.title for entry in list_scenes())
