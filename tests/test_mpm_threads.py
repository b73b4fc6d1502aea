"""Neither the order of particles nor the number of threads changes a result: bits, gradients, strays, segments."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mpm_scenes import DT, DX, FIELDS, SCENES, Scene, block, close, jelly, mixture, same, strip
from torch import Tensor

from physim.bridge import Buffers
from physim.errors import GradientError
from physim.fit.differences import compare
from physim.laws.material import Material
from physim.sim.model import Body, Grid, Model
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm import segment
from physim.solvers.mpm.layout import Layout
from physim.solvers.mpm.solver import SolverMPM

PATIENCE = 60.0
each = pytest.mark.parametrize("name", list(SCENES))


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Layout]]:
    """The layouts that segments make."""
    made: list[Layout] = []

    def make(*args: Any, **options: Any) -> Layout:
        made.append(Layout(*args, **options))
        return made[-1]

    monkeypatch.setattr(segment, "Layout", make)
    yield made


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_repeats_and_keeping_change_no_bit(name: str, dtype: torch.dtype, layouts: list[Layout]) -> None:
    scene = SCENES[name](dtype)
    one, two = scene.solver(1), scene.solver(2)
    first = scene.everything(one, keep=True)
    assert len(layouts) >= 4, "the particles stay too long in their cells to show anything"
    assert max(layout.slabs for layout in layouts) >= 4
    for leaf in scene.leaves:
        assert first[f"d/d{leaf}"].any(), f"nothing depends on {leaf}"
    for keep in (True, False, True):
        same(first, scene.everything(two, keep=keep))
    for keep in (True, False):
        same(first, scene.everything(one, keep=keep))


@each
def test_three_threads_too(name: str) -> None:
    scene = SCENES[name](torch.float32)
    same(scene.everything(scene.solver(1), keep=True), scene.everything(scene.solver(3), keep=True))


@each
def test_gradients_across_layouts(name: str, layouts: list[Layout]) -> None:
    scene = SCENES[name](torch.float64)
    solver = scene.solver()
    for found in compare(lambda: scene.loss(scene.end(solver)), scene.leaves, steps=(4e-6, 1e-6)):
        assert found.agrees(1e-6), f"{found}"
    assert len(layouts) >= 4


@each
def test_keeping_and_repeats_change_no_bit_across_segments(name: str) -> None:
    """Backward orders the particles as forward did, however many segments have passed since."""
    scene = SCENES[name](torch.float32)
    solver, chunks = scene.solver(), (5, 1, 6)
    first = scene.everything(solver, chunks, keep=True)
    same(first, scene.everything(solver, chunks, keep=False))
    same(first, scene.everything(scene.solver(2), chunks, keep=False))


def look_now_and_then(name: str) -> None:
    """Compare with a solver that asks for strays as on a device, every few substeps; fresh memory holds no numbers."""
    scene = SCENES[name](torch.float64)
    now, then = scene.solver(), scene.solver()
    work = then._workspace(scene.start)
    take = work.take_state

    def poisoned() -> Buffers:
        found = take()
        for field in "xvCF":
            found.tensors[field].fill_(float("nan"))
        return found

    work.cpu = False
    work.take_state = poisoned
    for keep in (True, False):
        same(scene.everything(now, keep=keep), scene.everything(then, keep=keep))


def test_looking_for_strays_now_and_then_changes_no_bit() -> None:
    """What follows a stray is done again, and reads nothing that was not written: else the process may die."""
    text = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    text += "from test_mpm_threads import look_now_and_then\n"
    text += "for name in ('jelly', 'mixture'):\n    look_now_and_then(name)\n    print(name, 'done', flush=True)\n"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=2 * PATIENCE)
    told = f"exit {found.returncode}\n{found.stdout[-300:]}\n{found.stderr[-2000:]}"
    assert found.returncode == 0 and "mixture done" in found.stdout, told


@each
def test_segments_of_any_length_agree(name: str, layouts: list[Layout]) -> None:
    """Each segment sorts anew: sums in another order, the same numbers."""
    scene = SCENES[name](torch.float64)
    solver = scene.solver()
    whole = scene.everything(solver, (12,), keep=True)
    for chunks in ((1,) * 12, (5, 7), (2, 4, 6), (3,) * 4, (4, 1, 4, 3)):
        for keep in (True, False):
            close(whole, scene.everything(solver, chunks, keep=keep), 1e-9)


def test_a_history_that_no_law_writes_stays_as_it_was() -> None:
    """A liquid without history beside a plastic body with one: memory that was used before must not show."""
    x = torch.cat([block((0.4, 0.4, 0.0), (2, 2, 0)), block((0.8, 0.4, 0.0), (2, 2, 0))])
    plastic = {"E": 2e4, "nu": 0.2, "yield_stress": 20.0}
    materials = [
        Material("hencky", None, "von_mises", rho0=1e3, values=plastic),
        Material("fluid_quadratic", "newtonian", "fluid", rho0=1e3, values={"bulk_modulus": 2e4, "viscosity": 2.0}),
    ]
    assert materials[0].history_size > materials[1].history_size
    half = len(x) // 2
    bodies = [Body(0, half, 0), Body(half, len(x), 1)]
    model = Model(Grid((0.0, 0.0, 0.0), DX, (14, 12, 1)), torch.full((len(x),), 2.5e-3), materials, bodies=bodies)
    sim = SolverMPM(model, x)
    rest = sim.initial_state()
    work = sim._workspace(rest)
    sim.advance(rest, None, DT, 1)
    used = [work.take_state() for _ in range(6)]
    for buffers in used:
        buffers.tensors["h"].fill_(7.0)
        work.pool.give(buffers)
    for keep in (True, False):
        end = sim.advance(rest.replace(v=rest.v.clone().requires_grad_(True)), None, DT, 3, keep=keep)
        assert torch.equal(end.h[half:], rest.h[half:])


def test_a_second_backward_pass_gives_the_same() -> None:
    """What was kept is gone after the first, and is computed again."""
    scene = mixture(torch.float32)
    loss, wanted = scene.loss(scene.end(scene.solver(2), keep=True)), [leaf for leaf, _ in scene.leaves.values()]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    second = torch.autograd.grad(loss, wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("field", ["x", "F"])
def test_a_bad_cotangent_is_named_by_the_user_s_index(field: str) -> None:
    """The particles have changed their order several times by then."""
    scene = jelly(torch.float32)
    given = getattr(scene.end(scene.solver(2)), field)
    cotangent = torch.zeros_like(given)
    cotangent[123] = float("inf")
    with pytest.raises(GradientError, match=rf"'{field}' at row 123, from the adjoint of 'the loss'"):
        torch.autograd.grad(given, scene.leaves[field][0], cotangent)


def strays(scene: Scene, count: int, layouts: list[Layout]) -> int:
    """Layouts that one segment of `count` substeps makes."""
    layouts.clear()
    with torch.no_grad():
        scene.end(scene.solver(), (count,))
    return len(layouts)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("keep", [True, False])
def test_a_stray_in_the_last_substep_of_a_segment(dim: int, keep: bool, layouts: list[Layout]) -> None:
    """No layout follows it: what is given back, and what backward starts from, is in the old order."""
    scene = strip(dim, 0.62)
    found = [strays(scene, count, layouts) for count in range(1, 8)]
    last = found.index(2)  # the segment of so many substeps ends with a stray: one more takes a second layout
    assert last >= 1 and found[last - 1] == 1
    solver = scene.solver()
    wanted = scene.everything(solver, (1,) * last + (1,), keep=True)
    for chunks in ((last, 1), (last + 1,), (1, last)):
        close(wanted, scene.everything(solver, chunks, keep=keep), 1e-10)
    if not keep:
        return
    for difference in compare(lambda: scene.loss(scene.end(solver, (last,), keep=keep)), scene.leaves):
        assert difference.agrees(1e-6), f"{difference}"


def test_a_segment_of_one_substep() -> None:
    scene = mixture(torch.float64)
    solver = scene.solver()
    same(scene.everything(solver, (1,), keep=True), scene.everything(solver, (1,), keep=False))
    for difference in compare(lambda: scene.loss(scene.end(solver, (1,))), scene.leaves, steps=(4e-6, 1e-6)):
        assert difference.agrees(1e-6), f"{difference}"
    with torch.no_grad():
        step = solver.step(scene.start, scene.model.control_at(0.0), DT)
        far = solver.advance(scene.start, scene.model.control_at(0.0), DT, 1)
    same({n: getattr(step, n) for n in FIELDS}, {n: getattr(far, n) for n in FIELDS})


@pytest.mark.parametrize(("dim", "periodic"), [(2, False), (3, True)])
def test_a_new_layout_as_often_as_can_be(dim: int, periodic: bool, layouts: list[Layout]) -> None:
    """At 0.9 cells a substep a layout lasts for two substeps, and a uniform motion stays one."""
    scene = strip(dim, 0.9, periodic=periodic)
    count = 25
    with torch.no_grad():
        v = torch.tensor([0.9 * DX / DT, 0.0, 0.0], dtype=torch.float64)
        rest = scene.solver().initial_state()
        end = scene.solver().advance(rest.replace(v=v.expand_as(rest.x).contiguous()), None, DT, count)
    assert len(layouts) >= count // 2
    assert torch.allclose(end.x, rest.x + count * DT * v, rtol=0, atol=1e-12)
    assert torch.allclose(end.F, rest.F, rtol=0, atol=1e-11)
    solver = scene.solver()
    layouts.clear()
    first = scene.everything(solver, (10,), keep=True)
    assert len(layouts) >= 5
    same(first, scene.everything(scene.solver(2), (10,), keep=False))
    close(first, scene.everything(solver, (1,) * 10, keep=True), 1e-9)
    for difference in compare(lambda: scene.loss(scene.end(solver, (10,))), scene.leaves):
        assert difference.agrees(1e-6), f"{difference}"


def in_time(works: list[Callable[[], Any]]) -> list[Any]:
    """Results of all, each in a thread of its own."""
    found: dict[int, Any] = {}
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            found[i] = works[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    assert len(found) == len(works), "a solver hangs"
    return [found[i] for i in range(len(works))]


@pytest.mark.parametrize("threads", [1, 2])
def test_two_solvers_at_once(threads: int) -> None:
    scenes = [jelly(torch.float32), mixture(torch.float32)]
    alone = [scene.everything(scene.solver(threads), keep=True) for scene in scenes]
    before = torch.get_num_threads()

    def often(scene: Scene) -> list[dict[str, Tensor]]:
        solver = scene.solver(threads)
        return [scene.everything(solver, keep=keep) for keep in (True, False, True)]

    together = in_time([lambda: often(scenes[0]), lambda: often(scenes[1])])
    for wanted, runs in zip(alone, together, strict=True):
        for found in runs:
            same(wanted, found)
    assert torch.get_num_threads() == before


def test_a_failure_leaves_the_threads_and_the_solver_usable() -> None:
    scene = jelly(torch.float32)
    solver = scene.solver(2)
    wanted = scene.everything(solver, keep=True)

    def fail() -> None:
        fast = scene.start.replace(v=scene.start.v * torch.linspace(0, 12, len(scene.start.x))[:, None])
        with pytest.raises(RolloutFailure) as caught:
            solver.advance(fast, None, DT, 5)
        assert caught.value.status is Status.TOO_FAST
        broken = scene.start.v.clone()
        broken[7] = float("nan")
        with pytest.raises(RolloutFailure):
            solver.advance(scene.start.replace(v=broken), None, DT, 5)

    in_time([fail])
    same(wanted, scene.everything(solver, keep=True))
