"""Learned laws in material files and scenes: sizes, files of weights, and what is wrong with them in one message."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from physim.errors import InputError
from physim.fit.fingerprint import fingerprint
from physim.fit.material_file import write_learned, write_materials
from physim.fit.space import Quantity, Space
from physim.fit.uncertainty import Estimate
from physim.laws import Material
from physim.laws.neural import neural_energy, neural_plastic, neural_viscous
from physim.scene.build import build
from physim.scene.learned import LearnedSpec
from physim.scene.loader import load_scene
from physim.scene.materials import make_material, material_spec, read_material_file
from physim.scene.resolved import write_resolved
from physim.scene.schema import scene_schema
from physim.scene.verify import verify_laws
from physim.scene.weights_file import read_weights, write_weights

HEAD = "title: gel\nlaw: {law}\nE: 100 kPa\nnu: 0.3\ndensity: 1000 kg/m^3\n"
SCENE = """
title: a learned cube
grid: {origin: [0, 0, 0], upper: [1, 1, 1], dx: 0.1}
time: {duration: 0.02 s, frame: 10 ms}
materials:
  gel: {law: neural_energy, E: 100 kPa, nu: 0.3, density: 1000 kg/m^3, network: gel.safetensors}
bodies:
  cube: {material: gel, shape: {box: {center: [0.5, 0.5, 0.5], size: [0.3, 0.3, 0.3]}}, velocity: [0, -1, 0]}
observe: {height: {kind: position, body: cube, direction: [0, 1, 0], data: fall, values: [y], noise: 1 mm}}
data: {fall: {columns: {time: s, y: m}, rows: [[0.0, 0.5], [0.02, 0.48]]}}
fit: {parameters: {materials.gel.E: {}}}
"""
PARTS = ("", "viscous_", "inelastic_")
GUM = {"mu": 1e4, "lam": 2e4, "branch_modulus_1": 3e4, "relaxation_time_1": 2.0}


def write(folder: Path, network: str, law: str = "neural_energy") -> Path:
    path = folder / "gel.yaml"
    path.write_text(HEAD.format(law=law) + f"network: {network}\n")
    return path


def weights(folder: Path, seed: int = 3, **options: object) -> Path:
    path = folder / "gel.safetensors"
    write_weights(path, neural_energy(**{"hidden": 5, **options}).network.make(seed))
    return path


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("{hidden: 5, convex: true, seed: 4}", "neural_energy_invariants_5_convex"),
        ("{encoder: hencky}", "neural_energy_hencky_16"),
        ("{}", "neural_energy"),
        ("null", "neural_energy"),
    ],
)
def test_a_material_file_gives_sizes_and_a_seed(tmp_path, network, name):
    material = make_material(read_material_file(write(tmp_path, network)))
    assert material.elastic.name == name
    seed = 4 if "seed" in network else 0
    assert torch.equal(material.network.outer, material.elastic.network.make(seed).outer)


def test_weights_come_back_bit_by_bit(tmp_path):
    path = weights(tmp_path, hidden=7, convex=True)
    made = neural_energy(hidden=7, convex=True).network.make(3)
    back = read_weights(path)
    assert back.plan == made.plan
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), back.parameters(), strict=True))
    spec = read_material_file(write(tmp_path, "gel.safetensors"))
    one, two = make_material(spec), make_material(spec)
    assert torch.equal(one.network.inner, made.inner) and one.network is not two.network
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    for options in ("convex: true", "encoder: stretches, seed: 2"):
        cann = make_material(read_material_file(write(tmp_path, f"{{{options}}}", "cann")))
        write_weights(path, cann.network)
        options = options.removesuffix(", seed: 2")
        again = make_material(read_material_file(write(tmp_path, f"{{file: gel.safetensors, {options}}}", "cann")))
        assert torch.equal(again.theta(), cann.theta()) and again.elastic is cann.elastic


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("../gel.safetensors", "leads out of the scene's folder"),
        ("/gel.safetensors", "leads out of the scene's folder"),
        ("gell.safetensors", "no such file.*Did you mean 'gel.safetensors'"),
        ("gel.yaml", "read from .safetensors files only"),
        ("broken.safetensors", "cannot be read as safetensors"),
        ("bare.safetensors", "no weights of a law"),
        ("{hiden: 3}", "unknown key 'hiden'. Did you mean 'hidden'"),
        ("{hidden: 3.5}", "hidden: expected a whole number, got 3.5"),
        ("{convex: 1}", "convex: expected true or false, got 1"),
        ("{hidden: 0}", "not a number of units"),
        ("{encoder: henki}", "Did you mean 'hencky'"),
        ("{encoder: hencky, convex: true}", "no polyconvex energy"),
        ("{seed: -1}", "expected a whole number from 0"),
        ("{file: gel.safetensors, hidden: 6}", "have hidden: 5, not 6"),
        ("3", "expected sizes such as"),
    ],
)
def test_a_wrong_network_is_one_clear_error(tmp_path, network, told):
    weights(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    save_file({"outer": torch.zeros(5)}, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=rf"gel.yaml:6: materials.gel.network.*{told}") as caught:
        read_material_file(write(tmp_path, network))
    assert "problems" not in str(caught.value)


def test_weights_of_another_law_or_shape_are_told_by_name(tmp_path):
    path = weights(tmp_path)
    with pytest.raises(InputError, match="'neo_hookean' has no network"):
        read_material_file(write(tmp_path, "gel.safetensors", "neo_hookean"))
    with pytest.raises(InputError, match="these weights are of neural_energy, not of cann"):
        read_material_file(write(tmp_path, "gel.safetensors", "cann"))
    words = {"format": "physim-weights-1", "law": "neural_energy", "options": '{"hidden": 5}'}
    tensors = dict(neural_energy(hidden=6).network.make(0).named_parameters())
    tensors["innner"] = tensors.pop("inner")
    tensors = {k: v.detach() for k, v in tensors.items()}
    save_file(tensors, path, metadata=words)
    told = r"'outer' has shape \(6,\), expected \(5,\); 'inner' of .* is missing;.*'innner' is unknown"
    with pytest.raises(InputError, match=told):
        read_weights(path)
    save_file(tensors, path, metadata=words | {"options": "["})
    with pytest.raises(InputError, match="options are unreadable"):
        read_weights(path)
    save_file(tensors, path, metadata=words | {"law": "neural_energi"})
    with pytest.raises(InputError, match="Did you mean 'neural_energy'"):
        read_weights(path)
    bad = {k: torch.full_like(v, torch.nan) for k, v in neural_energy(hidden=5).network.make(0).state_dict().items()}
    save_file(bad, path, metadata=words)
    with pytest.raises(InputError, match="no finite number"):
        read_weights(path)


def test_a_scene_runs_on_weights_and_its_copy_too(tmp_path):
    weights(tmp_path)
    (tmp_path / "cube.yaml").write_text(SCENE)
    scene = load_scene(tmp_path / "cube.yaml")
    material = build(scene).model.materials[0]
    assert torch.equal(material.network.outer, read_weights(tmp_path / "gel.safetensors").outer)
    (tmp_path / "run").mkdir()
    copy = load_scene(write_resolved(scene, tmp_path / "run"))
    assert (tmp_path / "run" / "inputs" / "gel.safetensors").is_file()
    assert torch.equal(build(copy).model.materials[0].theta(), material.theta())
    before = fingerprint(scene)
    weights(tmp_path, seed=4)
    after = fingerprint(load_scene(tmp_path / "cube.yaml"))
    assert [k for k in before if before[k] != after[k]] == ["the file gel.safetensors (materials.gel.network.file)"]


def test_a_fit_writes_weights_beside_its_material(tmp_path):
    weights(tmp_path)
    (tmp_path / "cube.yaml").write_text(SCENE)
    scene = load_scene(tmp_path / "cube.yaml")
    estimate = Estimate("materials.gel.E", "Pa", 9e4, 8e4, 1e5, 5e3, True)
    uncertainty = SimpleNamespace(estimates=[estimate], combined=[])
    space = Space((Quantity("materials.gel.E", "Pa", 9e2),))
    result = SimpleNamespace(
        uncertainty=uncertainty, assumptions=[], level=0.9, space=space, raw=space.start(), learned={}
    )
    (written,) = write_materials(scene, result, tmp_path / "out")
    back = make_material(read_material_file(written))
    assert torch.equal(back.network.inner, scene.materials["gel"].network.module.inner)
    assert float(back.values()["E"]) == pytest.approx(9e4)


def learned_clay() -> Material:
    values = {"E": 1.2e5, "nu": 0.3, "viscosity": 3.0, "yield_stress": 2e3, "friction_angle": 0.4}
    laws = neural_energy("hencky", hidden=3), neural_viscous(2), neural_plastic(4)
    networks = {f"{k}network": law.network.make(i) for i, (k, law) in enumerate(zip(PARTS, laws, strict=True))}
    return Material(*laws, rho0=1200.0, values=values, **networks)


def test_a_learned_material_is_written_and_read_again(tmp_path):
    fluid = neural_energy("volume", hidden=2)
    along = neural_energy("fibre", hidden=2)
    made = {
        "clay": learned_clay(),
        "water": Material(fluid, None, "fluid", rho0=1e3, values={"bulk_modulus": 1e5}, network=fluid.network.make(1)),
        "gel": Material(
            along, rho0=1e3, values={"mu": 1e4, "lam": 2e4}, network=along.network.make(2), fibre=(3.0, 4.0, 0.0)
        ),
        "gum": Material("neo_hookean", None, "maxwell_1", rho0=1e3, values=GUM),
    }
    told = LearnedSpec(0.3, (0.9, 1.1), 0.01, "a test", errors={"place": "1 mm"}, checks={"verdict": "sound"})
    for name, material in made.items():
        spec = read_material_file(
            write_learned(tmp_path / name / f"{name}.yaml", material, told, title=name, source="a test", valid="here")
        )
        again = make_material(spec)
        torch.testing.assert_close(again.theta(), material.theta(), rtol=1e-7, atol=0.0)
        assert again.composition == material.composition and again.rho0 == material.rho0
        assert again.values().keys() == material.values().keys() and spec.learned.strain == 0.3
        assert torch.equal(again.rest_history(1), material.rest_history(1))
        assert len(list((tmp_path / name).glob("*.safetensors"))) == sum(n is not None for n in material.networks)
    gum = Material("neo_hookean", None, "maxwell_1", rho0=1e3, values=GUM | {"mu": torch.tensor([1e4, 2e4])})
    with pytest.raises(InputError, match="gum: mu has 2 values, and a file holds one"):
        material_spec("gum", gum)


def test_checks_and_schema_know_learned_laws(tmp_path):
    weights(tmp_path, encoder="hencky")
    lines = list(verify_laws([str(write(tmp_path, "gel.safetensors"))], single=True))
    assert len(lines) == 15 and all(passed for _, passed in lines)
    network = scene_schema()["$defs"]["MaterialPart"]["properties"]["network"]
    assert {"file", "seed", "encoder", "hidden", "convex"} == set(network["anyOf"][1]["properties"])


def test_a_material_file_gives_the_direction_of_fibres(tmp_path):
    path = write(tmp_path, "{encoder: fibre, hidden: 3}\nfibre: [0, 3, 4]")
    material = make_material(read_material_file(path))
    assert torch.allclose(material.rest_history(2), torch.tensor([[0.0, 0.6, 0.8]] * 2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"gel.yaml:7: materials.gel.fibre: expected a direction such as"):
        read_material_file(write(tmp_path, "{encoder: fibre}\nfibre: up"))
    with pytest.raises(InputError, match=r"this law has no fibre"):
        read_material_file(write(tmp_path, "{encoder: hencky}\nfibre: [1, 0, 0]"))
