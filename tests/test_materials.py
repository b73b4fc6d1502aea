"""Every shipped material file is valid, says where it comes from, and simulates."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "materials"
MATERIALS = sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.yaml"))
SCENE = """
title: one drop
dim: 2
grid: {{origin: [0, 0], upper: [0.1, 0.1], dx: 1 cm}}
time: {{duration: 1 ms}}
materials: {{it: {name}}}
bodies: {{blob: {{shape: {{sphere: {{center: [0.05, 0.05], radius: 3 cm}}}}, material: it}}}}
"""


@pytest.mark.parametrize("name", MATERIALS)
def test_material_file(name: str, tmp_path: Path) -> None:
    from physim.scene.build import build
    from physim.scene.loader import load_scene

    scene_file = tmp_path / "scene.yaml"
    scene_file.write_text(SCENE.format(name=name))
    scene = load_scene(scene_file)
    spec = scene.spec.materials["it"]
    assert spec.source and spec.title and spec.valid
    built = build(scene)
    assert 0 < built.solver.stable_dt(built.solver.initial_state()) < 0.01
