"""What goes wrong during a fit and must not end it, and what must not depend on the threads."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from fit_scenes import bounce
from fit_toys import Oscillator

from physim.cli import main
from physim.errors import FitError, GradientError, SimulationError
from physim.fit.fingerprint import fingerprint
from physim.fit.loop import best_start, run_fit
from physim.fit.problem import Objective, Rejected
from physim.fit.rig import Rig
from physim.fit.run import fit_scene, make_problem
from physim.fit.settings import make_space
from physim.fit.stage import Method, Stage
from physim.scene.loader import load_scene

torch.set_num_threads(1)


class Breaking(torch.autograd.Function):
    """The identity, with a gradient that fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise GradientError("non-finite gradient at substep 3, particle 1.")


class Blind(Oscillator):
    """An oscillator that simulates everywhere and has no gradient where E is in `blind`."""

    def __init__(self, blind):
        super().__init__()
        self.blind = blind

    def predict(self, recording, raw, *, end=None):
        if raw.requires_grad and self.blind[0] < float(self.space.values(raw)[0].detach()) < self.blind[1]:
            raw = Breaking.apply(raw)
        return super().predict(recording, raw, end=end)


class TestGradientFails:
    @pytest.mark.parametrize(
        ("method", "begin", "blind", "rate"),
        [(Method.ADAM, 2.5, (4.1, 1e9), 0.2), (Method.LBFGS, 2.5, (4.1, 1e9), 2.0)],
    )
    def test_on_the_way_is_a_step_back(self, method, begin, blind, rate):
        problem = Blind(blind)
        start = problem.space.replaced({"materials.beam.E": begin})
        position = run_fit(problem, [Stage(method=method, iterations=200, rate=rate)], [start])
        values = problem.space.values(position.finished[0].raw).tolist()
        assert values == pytest.approx([4.0, 0.5], rel=0.02)
        assert any("the gradient fails: non-finite gradient at substep 3" in r["note"] for r in position.history)

    @pytest.mark.parametrize("method", [Method.ADAM, Method.LBFGS])
    def test_at_the_first_point_ends_that_start_only(self, method):
        problem = Blind((7.0, 9.0))
        stage = Stage(method=method, iterations=20)
        starts = [problem.space.start(), problem.space.replaced({"materials.beam.E": 4.5})]
        position = run_fit(problem, [stage], starts)
        assert best_start(position) == 1
        assert "the gradient fails" in position.finished[0].stop
        with pytest.raises(FitError, match=r"no start could be simulated.*the gradient fails"):
            run_fit(problem, [stage], starts[:1])


class TestThreads:
    def test_a_lone_recording_gives_the_same_with_fewer_runs_on_one_thread(self):
        found = []
        for threads in (1, 2):
            problem = Oscillator()
            problem.recordings = ("a",)
            start = problem.space.replaced({"materials.beam.E": 6.0})
            found.append(run_fit(problem, [Stage()], [start], threads=threads))
        one, two = (f.finished[0] for f in found)
        assert torch.equal(one.raw, two.raw) and one.stop == two.stop
        histories = [[{k: v for k, v in r.items() if k != "runs"} for r in f.history] for f in found]
        assert histories[0] == histories[1]
        runs = [sum(r["runs"] for r in f.history) for f in found]
        assert runs[0] < 0.9 * runs[1]

    def test_the_first_run_of_each_kind_runs_alone(self, tmp_path, monkeypatch):
        log, lock = [], threading.Lock()

        def run(self, raw, *, end=None):
            kind = (id(self.space), self.scene.spec.time.frame, self.label, raw.requires_grad)
            began = time.perf_counter()
            time.sleep(0.004)
            with lock:
                log.append((kind, began, time.perf_counter()))
            return []

        monkeypatch.setattr(Rig, "run", run)
        whole = make_problem(load_scene(bounce_without_truth(tmp_path)))
        stage = whole.for_stage(Stage(overrides=("time.frame=10ms",)))
        raw = whole.space.start()
        free = raw.clone().requires_grad_()
        tasks = [(p, r, z) for _ in range(3) for p in (whole, stage) for r in ("a", "b") for z in (raw, free)]
        threads = [
            threading.Thread(target=lambda mine=tasks[i::4]: [p.predict(r, z) for p, r, z in mine]) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.sort(key=lambda entry: entry[1])
        seen, overlapping = set(), 0
        for i, (kind, began, ended) in enumerate(log):
            others = [o for j, o in enumerate(log) if j != i and o[1] < ended and o[2] > began]
            overlapping += len(others)
            assert kind in seen or not others, "a first run beside another"
            seen.add(kind)
        assert len(log) == 24 and len(seen) == 8
        assert overlapping > 0  # the others do run at the same time


def bounce_without_truth(folder):
    """The scene of `bounce` with records of zeros: nothing is simulated for them."""
    from fit_scenes import BOUNCE, _tables

    times = torch.linspace(0.0, 0.29, 20).numpy()
    path = folder / "bounce.yaml"
    path.write_text(BOUNCE + _tables(times, {n: torch.zeros(20, 3).numpy() for n in "abc"}))
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = bounce(tmp_path_factory.mktemp("delay"), recordings=False)
    return load_scene(path, ["fit.parameters={observe.height.delay: {}}"])


class TestFittedDelay:
    def height(self, scene, delay):
        problem = make_problem(scene)
        with torch.no_grad():
            return problem.predict("", problem.space.raw([delay]))[0].predicted[:, 0]

    def test_past_the_end_is_simulated_longer(self, scene):
        longer = scene.changed(["time.duration=0.6 s"])
        found = self.height(scene, 0.1)
        torch.testing.assert_close(found, self.height(longer, 0.1))
        assert abs(float(found[-1] - found[-3])) > 1e-3

    @pytest.mark.parametrize(
        ("delay", "told"),
        [(0.5, "end to 0.79 s, far past the scene's 0.3 s"), (-0.4, "end to -0.11 s, before the simulation starts")],
    )
    def test_out_of_reach_is_a_rejected_point(self, scene, delay, told):
        problem = make_problem(scene)
        objective = Objective(problem, Stage(), problem.space.start())
        (failed,) = objective.residuals([problem.space.raw([delay])])
        assert isinstance(failed, SimulationError)
        assert told in str(failed) and "observe.height.delay" in str(failed)

    def test_a_fit_finds_a_delay_past_the_end(self, scene):
        exact = self.height(scene, 0.06)
        rows = ", ".join(f"[{t:.6f}, {float(y):.9f}]" for t, y in zip(torch.linspace(0, 0.29, 20), exact, strict=True))
        late = scene.changed([f"data.height_a.rows=[{rows}]", "observe.corners=null"])
        result = fit_scene(late, out=None, quiet=True, threads=1)
        assert result.values["observe.height.delay"] == pytest.approx(0.06, abs=1e-4)


MESHED = """
title: A meshed body
grid: {dx: 10 cm, origin: [0, 0, 0], upper: [1, 1, 1]}
time: {duration: 0.1 s, frame: 10 ms}
materials:
  jelly: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000}
bodies:
  block: {shape: {mesh: {file: block.stl}}, material: jelly}
observe:
  height: {kind: position, body: block, direction: [0, 1, 0], data: height, noise: 1 mm}
data:
  height: {columns: {t: s, y: m}, file: height.csv}
recordings:
  a: {}
  b: {set: {data.height.file: other.csv}}
fit:
  parameters: {materials.jelly.E: {}}
"""


class TestFingerprint:
    def test_content_of_files_and_the_version_count_and_folders_do_not(self, tmp_path, monkeypatch):
        def write(folder, mesh="solid a", rows="0, 1\n0.1, 2\n", other="0, 1\n0.1, 3\n"):
            folder.mkdir(exist_ok=True)
            (folder / "scene.yaml").write_text(MESHED)
            (folder / "block.stl").write_text(mesh)
            (folder / "height.csv").write_text("t,y\n" + rows)
            (folder / "other.csv").write_text("t,y\n" + other)
            return fingerprint(load_scene(folder / "scene.yaml"))

        first = write(tmp_path / "a")

        def changed(now):
            return [k for k in {**first, **now} if first.get(k) != now.get(k)]

        assert changed(write(tmp_path / "b")) == []
        assert changed(write(tmp_path / "a", mesh="solid b")) == ["the file block.stl (bodies.block.shape.mesh.file)"]
        assert changed(write(tmp_path / "a", rows="0, 1\n0.1, 4\n")) == ["the file height.csv (data.height.file)"]
        assert changed(write(tmp_path / "a", other="0, 1\n0.1, 4\n")) == ["the file other.csv (data.height.file)"]
        monkeypatch.setattr("physim.__version__", "0.0.0")
        assert changed(write(tmp_path / "a")) == ["the version of physim"]


class TestExpectedNumber:
    def code(self, arguments):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return end.value.code

    def test_a_fit_whose_number_is_off_exits_with_1(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("physim.cli.drawn", lambda folder, films: {})
        path = bounce(tmp_path, recordings=False)
        expect = "expect={meaning: height at the end, observe: height, value: 1 m, tolerance: 1 cm}"
        changes = ["--set", "fit.iterations=4", "--set", expect, "--out", str(tmp_path / "runs")]
        assert self.code(["fit", str(path), *changes]) == 1
        assert "height at the end: 0." in (out := capsys.readouterr().out) and "NOT as expected" in out
        (folder,) = (tmp_path / "runs").iterdir()
        assert "NOT as expected" in (folder / "report.html").read_text()
        near = load_scene(path, [expect.replace("value: 1 m", "value: 0.1 m").replace("1 cm", "1 m")])
        result = fit_scene(near, out=None, quiet=True)
        assert result.as_expected and result.verdict is not None
        measured = next(c for c in result.comparisons if c.name == "height")
        # The record ends one frame before the scene.
        assert result.verdict.value == pytest.approx(float(measured.predicted[-1]), abs=0.02)


def test_a_start_is_set_from_the_command_line():
    path = "fit.parameters.materials.silicone.E.start"
    for text, value in (("55kPa", 55e3), ("880kPa", 880e3)):
        space = make_space(load_scene("silicone_beam", [f"{path}={text}"]))
        assert space.quantities[space.index("materials.silicone.E")].start == value


class TestValuesThatLimitEachOther:
    @pytest.fixture
    def rig(self, tmp_path):
        path = bounce(tmp_path, recordings=False)
        text = path.read_text()
        text = text.replace("{law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000}", SAND)
        text = text.replace("materials.jelly.E: {bounds: [1 kPa, 1 MPa]}", ANGLES)
        path.write_text(text)
        scene = load_scene(path)
        return Rig(scene, make_space(scene), "")

    def test_are_set_together(self, rig):
        # The dilation alone would be above the friction angle that the scene starts with.
        raw = rig.space.replaced({FRICTION: 0.7, DILATION: 0.6})
        assert len(rig.run(raw, end=0.05)) == 2

    def test_beyond_the_limit_is_a_step_back(self, rig):
        raw = rig.space.replaced({FRICTION: 0.2, DILATION: 0.3})
        with pytest.raises(Rejected, match="dilation_angle"):
            rig.run(raw, end=0.05)


SAND = (
    "{law: hencky, E: 20 kPa, nu: 0.3, density: 1000, "
    "inelastic: {law: drucker_prager_2d, friction_angle: 25 deg, dilation_angle: 5 deg}}"
)
ANGLES = (
    "materials.jelly.inelastic.dilation_angle: {bounds: [0 deg, 50 deg]}, materials.jelly.inelastic.friction_angle: {}"
)
FRICTION, DILATION = (f"materials.jelly.inelastic.{name}_angle" for name in ("friction", "dilation"))
