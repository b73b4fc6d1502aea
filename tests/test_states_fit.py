"""Files of states, and `physim fit` that learns a law from them: from scene file to result folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from physim.errors import FitError, InputError, SimulationError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.learn.lessons import make_task
from physim.fit.learn.outcome import unexcited_sentence
from physim.fit.learn.scene import learn_scene, learns, untouched
from physim.fit.run import fit_scene
from physim.laws.neural import neural_energy
from physim.scene.loader import load_scene
from physim.scene.materials import read_material_file
from physim.scene.problems import SceneError
from physim.scene.run import run_scene
from physim.scene.states_file import STATES, StatesKeeper, join_states, read_states, write_states
from physim.scene.weights_file import write_weights

SCENE = """
title: a block falls
solver: mpm
precision: double
grid: {origin: [0, 0, 0], upper: [0.8, 0.8, 0.8], dx: 0.1}
gravity: [0, -9.81, 0]
time: {duration: 24 ms, dt: 0.3 ms, frame: 1.2 ms}
materials:
  gel: MATERIAL
bodies:
  block:
    shape: {box: {lower: [0.3, 0.21, 0.3], upper: [0.6, 0.41, 0.5]}}
    material: gel
    counts: [6, 4, 4]
    velocity: [0.5, -4, 0]
    spin: [5, 3, -6]
walls: {y_min: {type: slip, position: 0.2}}
REST
"""
TRUE = "{law: neural_energy, E: 80 kPa, nu: 0.3, density: 1000 kg/m^3, network: {hidden: 4, seed: 1}}"
CLOSED = "{law: neo_hookean, E: 80 kPa, nu: 0.3, density: 1000 kg/m^3}"
NETWORK = "{law: neural_energy, E: 50 kPa, nu: 0.2, density: 1000 kg/m^3, network: {hidden: 4, seed: 1}}"
STATE = "states: {drop: {file: states.safetensors, noise: {position: 1 um, velocity: 0.1 mm/s}}}\n"
LEARN = "fit: {learn: {lengths: [8], whole: false, runs: 10}}\n"


def written(folder: Path, name: str, material: str, rest: str = "") -> Path:
    path = folder / name
    path.write_text(SCENE.replace("MATERIAL", material).replace("REST", rest))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of states and the scene that they teach."""
    folder = tmp_path_factory.mktemp("states")
    run = run_scene(load_scene(written(folder, "truth.yaml", TRUE)), folder / "runs", states=True)
    (folder / STATES).write_bytes((run.folder / STATES).read_bytes())
    written(folder, "learn.yaml", NETWORK, STATE + LEARN)
    return folder


def test_states_are_written_and_read_to_the_bit(made: Path, tmp_path: Path) -> None:
    found = read_states(made / STATES, particles=96, dt=3e-4)
    assert len(found) == 21 and found.every == 4 and found.dt == pytest.approx(3e-4) and found.title == "a block falls"
    write_states(tmp_path / "copy.safetensors", found)
    again = read_states(tmp_path / "copy.safetensors")
    for a, b in zip(found.states, again.states, strict=True):
        assert a.t == b.t and all(torch.equal(getattr(a, n), getattr(b, n)) for n in "xvCFh")
    assert torch.equal(found.vol0, again.vol0)


def test_states_outlive_a_run_that_fails_or_is_ended(made: Path, tmp_path: Path) -> None:
    whole = read_states(made / STATES)
    scene = load_scene(made / "truth.yaml", ["bodies.block.velocity=[40, 0, 0]"])
    with pytest.raises(
        SimulationError, match=r"left the grid.* The \d+ states up to there are in .*states.safetensors"
    ):
        run_scene(scene, tmp_path / "failed", states=True)
    (folder,) = (tmp_path / "failed").iterdir()
    found = read_states(folder / STATES)
    assert 2 < len(found) < len(whole) and not (folder / "states").exists()
    assert f'"kept": {len(found)}' in (folder / "log.jsonl").read_text()

    def ended(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scene(load_scene(made / "truth.yaml"), tmp_path / "ended", states=True, progress=ended)
    (folder,) = (tmp_path / "ended").iterdir()
    found = read_states(folder / STATES)
    assert 3 <= len(found) <= 4
    for a, b in zip(found.states, whole.states, strict=False):
        assert a.t == b.t and all(torch.equal(getattr(a, n), getattr(b, n)) for n in "xvCFh")

    keeper = StatesKeeper(tmp_path / STATES, whole.vol0, whole.dt, whole.every, whole.title)
    for state in whole.states:  # of a run that is killed without a word nothing joins them
        keeper.add(state)
    again = read_states(join_states(tmp_path / "states"))
    write_states(tmp_path / "once.safetensors", whole)
    assert len(again) == 21 and torch.equal(again.states[20].F, whole.states[20].F) and again.title == whole.title
    assert {n: t.shape for n, t in load_file(tmp_path / STATES).items()} == {
        n: t.shape for n, t in load_file(tmp_path / "once.safetensors").items()
    }
    with pytest.raises(InputError, match="no states to join"):
        join_states(tmp_path / "states")


def test_states_that_do_not_fit_are_refused_in_words(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="96 particles, and the bodies of the scene have 95"):
        read_states(made / STATES, particles=95)
    with pytest.raises(InputError, match=r"made with dt = 0.0003 s, and the scene says dt = 0.0002 s"):
        read_states(made / STATES, dt=2e-4)
    (tmp_path / "short.safetensors").write_bytes((made / STATES).read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        read_states(tmp_path / "short.safetensors")
    save_file({"x": torch.zeros(2, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no file of states"):
        read_states(tmp_path / "other.safetensors")
    tensors = load_file(made / STATES)
    words = {"format": "physim-states-1", "dt": "0.0003", "every": "4"}
    broken = tensors["v"].clone()
    broken[3, 7, 1] = torch.nan
    save_file(tensors | {"v": broken}, tmp_path / "nan.safetensors", metadata=words)
    with pytest.raises(InputError, match="v holds what is no finite number, first in frame 3, particle 7"):
        read_states(tmp_path / "nan.safetensors")
    save_file({k: v for k, v in tensors.items() if k != "C"}, tmp_path / "less.safetensors", metadata=words)
    with pytest.raises(InputError, match="C missing"):
        read_states(tmp_path / "less.safetensors")
    save_file(tensors | {"x": tensors["x"][:, :5].contiguous()}, tmp_path / "shape.safetensors", metadata=words)
    with pytest.raises(InputError, match="x has shape"):
        read_states(tmp_path / "shape.safetensors")
    save_file(tensors, tmp_path / "times.safetensors", metadata=words | {"every": "5"})
    with pytest.raises(InputError, match="not 5 substeps of"):
        read_states(tmp_path / "times.safetensors")
    inside_out = tensors["F"].clone()
    inside_out[2, 5] *= -1.0
    for changed, told in (
        ({"t": torch.tensor(0.0)}, r"t has shape \(\), expected one number for each of the frames"),
        ({"vol0": tensors["vol0"][:, None]}, "expected one number for each of the particles"),
        ({"h": tensors["v"][:, :, 0]}, r"h has shape \(21, 96\), expected \(21, 96, 0\)"),
        ({"vol0": -tensors["vol0"]}, "vol0 of particle 0 is not above 0"),
        ({"F": inside_out}, "F of particle 5 in frame 2 is turned inside out"),
    ):
        save_file({k: v.contiguous() for k, v in (tensors | changed).items()}, tmp_path / "bad.safetensors", words)
        with pytest.raises(InputError, match=told):
            read_states(tmp_path / "bad.safetensors")
    save_file(tensors, tmp_path / "back.safetensors", metadata=words | {"dt": "-0.0003", "every": "-4"})
    with pytest.raises(InputError, match="expected a dt above 0"):
        read_states(tmp_path / "back.safetensors")


def test_a_scene_is_fitted_from_its_file_to_a_material_and_goes_on_where_it_was(made: Path, tmp_path: Path) -> None:
    scene = load_scene(made / "learn.yaml")
    assert learns(scene)
    result = learn_scene(scene, out=tmp_path, quiet=True)
    assert result.learned.held_out < 0.5
    folder = result.folder
    assert folder is not None
    spec = read_material_file(folder / "material.yaml")
    learned = spec.learned
    assert spec.network is not None and learned is not None and learned.reach is not None
    assert 0.0 < learned.reach.strain < 1.0 and learned.scene == "learn" and learned.seed == 1
    assert learned.errors["drop_position"].endswith("m after 0.0048 s held out")
    assert learned.checks["rest_state"] == 0.0 and "verdict" in learned.checks and learned.errors
    assert spec.values["E"] == pytest.approx(80e3, rel=0.1)
    told = json.loads((folder / "result.json").read_text())
    assert told["held_out"] == result.learned.held_out and {b["test"] for b in told["bands"]} == {
        "uniaxial",
        "simple_shear",
    }
    assert all(sd >= 0.0 for b in told["bands"] for sd in b["sd"]) and max(told["bands"][0]["sd"]) > 0.0
    report = (folder / "report.html").read_text()
    assert report.count("data:image/png") == 3 and "held out" in report
    assert any("held out" in line for line in result.lines())

    store = CheckpointStore(folder / "checkpoints")
    store.path(store.numbers()[-1]).unlink()
    again = learn_scene(scene, resume=folder, quiet=True)
    assert torch.equal(again.learned.point, result.learned.point)
    rounds = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [r["event"] for r in rounds].count("round") == len(result.learned.history)
    with pytest.raises(FitError, match="changed since: the scene or its overrides"):
        learn_scene(made / "learn.yaml", ["fit.learn.rounds=3"], resume=folder, quiet=True)
    with pytest.raises(FitError, match="learns a law from states"):
        fit_scene(scene, out=None)


def test_states_may_be_those_of_a_shipped_scene_or_of_a_file_typed_in(made: Path) -> None:
    states = "states: {drop: {scene: dam_break, every: 2, frames: 6, particles: 20}}\n"
    written(made, "own.yaml", NETWORK, states + LEARN)
    task = make_task(load_scene(made / "own.yaml", data=[f"drop={made / STATES}"]))
    motion = task.lessons[0].motion
    assert motion.intervals == 5 and motion.every == 8 and task.sources == ["drop (states.safetensors)"]
    assert task.lessons[0].observed is not None and len(task.lessons[0].observed) == 20
    task = make_task(load_scene("learn_jelly", ["states.throw.every=20"]))
    assert task.lessons[0].motion.intervals == 10 and task.sources == ["throw (a run of nclaw_jelly)"]
    with pytest.raises(SceneError, match=r"this scene says dt = 0\.0001 s"):
        make_task(load_scene("learn_jelly", ["states.throw.every=20", "time.dt=0.1 ms"]))
    with pytest.raises(InputError, match="Did you mean 'drop'"):
        load_scene(made / "own.yaml", data=[f"dorp={made / STATES}"])


@pytest.mark.parametrize(
    ("material", "rest", "message"),
    [
        (NETWORK, LEARN, "there is nothing to learn from; add `states`"),
        (CLOSED, STATE + LEARN, "name the `material` to learn; those with weights: none"),
        (NETWORK, STATE + "fit: {learn: {material: gle}}", "Did you mean 'gel'"),
        (NETWORK, "states: {drop: {noise: {position: 1 um}}}\n" + LEARN, "needs either a `file` of states"),
        (NETWORK, STATE.replace("1 um", "1 um/s") + LEARN, "expected a length"),
        (NETWORK, "states: {drop: {scene: jelly_dorp}}\n" + LEARN, "Did you mean 'jelly_drop'"),
        (NETWORK, STATE + "fit: {learn: {}, parameters: {materials.gel.E: {}}}", "stands alone"),
        (NETWORK, STATE + "fit: {learn: {}, method: adam}", "leave `method` out, or give it under `learn`"),
        (NETWORK, STATE.replace("noise", "role: holdout, noise") + LEARN, "all are held out"),
        (NETWORK, STATE, r"wrong.yaml:18: states: nothing learns from them; add `fit: {learn: {}}`"),
        (
            NETWORK,
            STATE + "fit: {learn: {rate: 0.1}}",
            r"fit.learn.rate: `gauss_newton` does not use it; add `method: a",
        ),
        (NETWORK, STATE + "fit: {learn: {method: none, ema: 0.5}}", "fit.learn.ema: `none` does not use it"),
        (
            NETWORK,
            STATE + "fit:\n  learn:\n    iterations: 5",
            r"wrong.yaml:21: fit.learn.iterations: .*or `method: lbf",
        ),
        (NETWORK, STATE + "fit: {learn: {method: lbfgs, rate: 1}}", "`lbfgs` does not use it; add `method: adam`"),
    ],
)
def test_mistakes_are_told_where_they_are(made: Path, material: str, rest: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        load_scene(written(made, "wrong.yaml", material, rest))


def test_states_of_another_body_are_refused(made: Path) -> None:
    scene = load_scene(made / "learn.yaml", ["bodies.block.shape.box.upper.x=0.5"])
    with pytest.raises(SceneError, match="volumes of its particles differ"):
        make_task(scene)
    with pytest.raises(SceneError, match="96 particles, and the bodies of the scene have 144"):
        make_task(load_scene(made / "learn.yaml", ["bodies.block.counts=[6, 6, 4]"]))


def test_weights_from_a_file_have_no_seed_and_held_out_states_teach_no_strains(made: Path) -> None:
    law = neural_energy(hidden=4)
    assert law.network is not None
    write_weights(made / "gel.safetensors", law.network.make(seed=3))
    read = NETWORK.replace("{hidden: 4, seed: 1}", "gel.safetensors")
    written(made, "read.yaml", read, STATE + "fit: {learn: {start: none, method: none}}\n")
    result = learn_scene(made / "read.yaml", out=None, quiet=True)
    assert result.about.seed is None and result.about.strain is not None
    states = result.task.lessons[0].motion.states
    taught = torch.cat([torch.linalg.svdvals(s.F.double()).log().norm(dim=1) for s in states[:17]])
    later = torch.cat([torch.linalg.svdvals(s.F.double()).log().norm(dim=1) for s in states])
    assert result.about.strain <= float(taught.max()) < float(later.max())
    assert result.about.strain == pytest.approx(float(taught.quantile(0.999)), rel=1e-2)


def test_weights_that_were_left_alone_are_told(made: Path) -> None:
    viscous = "network: {hidden: 4}, viscous: {law: neural_viscous, viscosity: 1 Pa s, network: {hidden: 2}}}"
    written(made, "gum.yaml", NETWORK.replace("network: {hidden: 4, seed: 1}}", viscous), STATE + LEARN)
    (told,) = untouched(make_task(load_scene(made / "gum.yaml")), strength=False)
    assert told.startswith("The weights of the viscous law are as they were") and "method: adam" in told
    assert untouched(make_task(load_scene(made / "learn.yaml")), strength=False) == []


def test_a_strength_is_read_off_states_whose_history_nobody_saw(tmp_path: Path) -> None:
    """Perfectly plastic states carry no history; the learned strength does, and goes on from a checkpoint."""
    clay = "{law: hencky, E: 80 kPa, nu: 0.3, density: 1000 kg/m^3, inelastic: {law: von_mises, yield_stress: 2 kPa}}"
    run = run_scene(load_scene(written(tmp_path, "truth.yaml", clay)), tmp_path / "runs", states=True)
    found = read_states(run.folder / STATES)
    bare = [s.replace(h=s.h[:, :0]) for s in found.states]
    write_states(tmp_path / STATES, dataclasses.replace(found, states=bare))
    own = (
        "{law: neural_energy, E: 50 kPa, nu: 0.2, density: 1000 kg/m^3, "
        "network: {encoder: hencky, hidden: 4, seed: 1}, "
        "inelastic: {law: neural_plastic, yield_stress: 4 kPa, network: {hidden: 2, seed: 1}}}"
    )
    scene = load_scene(written(tmp_path, "learn.yaml", own, STATE + LEARN))
    result = learn_scene(scene, out=tmp_path / "runs", quiet=True)
    values = result.values()
    assert values["inelastic.yield_stress"] == pytest.approx(2e3, rel=0.02)
    assert values["E"] == pytest.approx(8e4, rel=0.02) and "strength: read off" in " ".join(result.lines())
    again = learn_scene(scene, out=tmp_path / "runs", resume=result.folder, quiet=True)
    assert again.values() == values


def test_what_the_motion_does_not_tell_is_one_sentence() -> None:
    told = unexcited_sentence(["square", "unit 3", "unit 9"], 20)
    assert told.startswith("The motion says nothing about square, 2 units of the network (3 of 20 coefficients)")
