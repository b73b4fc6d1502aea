"""The published networks, written from their description: steps, gradients, recipe and checks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import nclaw_reference as reference

from physim.errors import InputError
from physim.fit.learn.shooting import Motion
from physim.sim.state import ParticleState
from tools.bench.plain_network import PlainRun
from tools.nclaw.baseline import PLASTIC, coupled, path, train_baseline, untrained
from tools.nclaw.baseline_checks import checks
from tools.nclaw.network import Decomposition, Perceptron, features, flowed, kirchhoff
from tools.nclaw.plain_runs import Box, Law, Runs
from tools.nclaw.setting import DT, NODES, Throw, cube, slope, truth
from tools.nclaw.setting import path as engine_path


def bits(seed: int = 0, size: int = 5) -> tuple[Throw, torch.Tensor]:
    """A small body near a wall, and strains."""
    draw = torch.Generator().manual_seed(seed)
    line = 0.14 + 0.03 * torch.arange(size)
    x = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    v = torch.tensor([-2.0, -1.0, 0.5]) + torch.randn(x.shape, generator=draw)
    F = torch.eye(3) + 0.08 * torch.randn(len(x), 3, 3, generator=draw)
    return Throw(x, v, torch.full((len(x),), 0.03**3)), F


def stiff(net: Perceptron, factor: float = 10.0) -> Perceptron:
    with torch.no_grad():
        for layer in net.linear:
            layer.weight *= factor
    return net


@pytest.mark.parametrize("name", ["jelly", "water"])
def test_the_plain_program_follows_the_independent_one(name: str) -> None:
    c = reference.MATERIALS[name]

    def stress(F: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(reference.stress(name, c, F.double().numpy())).float()

    steps = 100  # past the first contact
    found = path(Law(stress, PLASTIC[name]), cube(steps=steps))
    assert found.shape == (steps // 5, 1000, 3)
    assert np.sqrt(((found[-1].numpy() - reference.simulate(name, steps)) ** 2).sum(1).mean()) < 1e-5


def test_a_slope_is_that_of_the_engine() -> None:
    c = reference.MATERIALS["jelly"]
    law = Law(lambda F: torch.from_numpy(reference.stress("jelly", c, F.double().numpy())).float())
    throw = slope()
    throw = dataclasses.replace(throw, x=throw.x - torch.tensor([0.0, 0.08, 0.0]), steps=40)
    box = dataclasses.replace(throw, slope=None)
    found, engine = path(law, throw), engine_path(throw, truth("jelly"))
    assert float((found - engine).abs().max()) < 1e-5 < float((found - path(law, box)).abs().max())


def test_the_other_material_of_a_pool_is_the_true_one() -> None:
    throw, F = bits()
    n = len(F)
    throw = dataclasses.replace(throw, learned=(0, 40), other="water")
    net = stiff(Perceptron(torch.Generator().manual_seed(0)))
    law = coupled(Law(net), throw)
    assert callable(law.elastic) and callable(law.plastic)
    with torch.no_grad():
        tau, after = law.elastic(F), law.plastic(F)
        assert torch.allclose(tau[:40], kirchhoff(net, F[:40])) and torch.equal(after[:40], F[:40])
    J = torch.linalg.det(F[40:])[:, None, None]
    pressure = reference.MATERIALS["water"].lam * J * (J - 1.0)
    assert torch.allclose(tau[40:], pressure * torch.eye(3), rtol=1e-3, atol=1.0)
    assert torch.allclose(after[40:], forgotten(F[40:]), atol=1e-5) and len(after) == n
    runs = Runs(law, Box(throw.vol0, NODES, DT), 1, 1)
    with pytest.raises(InputError, match="without another plane or law"):
        runs.backward(1, lambda t: None)


def test_slopes_of_the_decomposition() -> None:
    draw = torch.Generator().manual_seed(1)
    F = torch.eye(3, dtype=torch.float64) + 0.2 * torch.randn(4, 3, 3, dtype=torch.float64, generator=draw)
    assert torch.autograd.gradcheck(Decomposition.apply, F.requires_grad_())
    # Where stretches are equal, slopes of what does not know their order are right, and none is infinite.
    eye = torch.eye(3, dtype=torch.float64).expand(1, 3, 3).clone().requires_grad_()
    R, s = Decomposition.apply(eye)  # type: ignore[misc]
    (slope,) = torch.autograd.grad(s.square().sum() + R[0, 0, 1], eye)
    want = 2.0 * torch.eye(3, dtype=torch.float64)
    want[0, 1], want[1, 0] = 0.5, -0.5
    assert torch.allclose(slope[0], want)


def forgotten(F: torch.Tensor) -> torch.Tensor:
    return torch.linalg.det(F)[:, None, None] ** (1 / 3) * torch.eye(3)


@pytest.mark.parametrize("kind", ["none", "water", "network"])
def test_kernels_and_tape_give_the_same_gradients(kind: str) -> None:
    """Of hand-written adjoints, and of autograd with tapes; with walls."""
    throw, F = bits()
    draw = torch.Generator().manual_seed(2)
    elastic, plastic = stiff(Perceptron(draw)), Perceptron(draw) if kind == "network" else None
    weights = torch.randn(throw.x.shape, generator=draw)
    box, substeps = Box(throw.vol0, NODES, DT), 10
    runs = Runs(Law(elastic, plastic or ("water" if kind == "water" else None)), box, 2, substeps)
    runs.begin(*(t.repeat(2, *[1] * (t.ndim - 1)) for t in (throw.x, throw.v, torch.zeros_like(F), F)))
    runs.forward(substeps)
    runs.backward(substeps, lambda t: torch.cat([weights, 0.0 * weights]) if t == substeps else None)
    end = runs.x[substeps][: len(F)]
    assert torch.equal(end, runs.x[substeps][len(F) :])
    nets = [*elastic.parameters(), *(plastic.parameters() if plastic else ())]
    found = [p.grad.clone() for p in nets if p.grad is not None]
    run = PlainRun(box, elastic, forgotten if kind == "water" else plastic)
    x = run.roll(throw.x, throw.v, F, substeps)
    assert torch.allclose(x, end, rtol=0, atol=1e-6)
    for want, got in zip(torch.autograd.grad((weights * x).sum(), nets), found, strict=True):
        assert (got - want).norm() < 1e-4 * want.norm()
    if plastic:
        assert 1e-5 < float((flowed(plastic, F) - F).detach().abs().max()) < 0.1


def test_what_the_kernel_reads_is_what_the_description_says() -> None:
    _, F = bits()
    runs = Runs(Law(Perceptron(torch.Generator()), None), Box(torch.ones(len(F)), NODES, DT), 1, 1)
    runs.begin(torch.full((len(F), 3), 0.5), torch.zeros(len(F), 3), torch.zeros_like(F), F)
    runs.forward(1)
    R, s = Decomposition.apply(F)  # type: ignore[misc]
    assert runs._elastic is not None
    assert torch.allclose(runs._elastic.z[0], features(F, s), atol=2e-6)
    assert torch.allclose(runs._elastic.R[0], R, atol=2e-6)


def motion(intervals: int = 12) -> Motion:
    """A small body that is pulled together by a network."""
    throw, F = bits()
    law = Law(stiff(Perceptron(torch.Generator().manual_seed(5)), 8.0))
    runs = Runs(law, Box(throw.vol0, NODES, DT), 1, 5 * intervals)
    runs.begin(throw.x, throw.v, torch.zeros_like(F), F)
    runs.forward(5 * intervals)
    rows = range(0, 5 * intervals + 1, 5)
    states = tuple(
        ParticleState(*(getattr(runs, k)[t].clone() for k in ("x", "v", "C", "F")), torch.zeros(len(F), 0), t * DT)
        for t in rows
    )
    return Motion(states, DT, 5, position_noise=1e-5)


def test_training_follows_the_recipe_and_repeats() -> None:
    seen, (throw, _) = motion(), bits()
    first, again = (train_baseline("plasticine", seen, 0, epochs=3, throw=throw) for _ in range(2))
    one = train_baseline("plasticine", seen, 1, epochs=1, throw=throw)
    assert first.losses == again.losses and one.losses[0] != first.losses[0]
    assert first.epochs == 3 and first.failed == 0 and all(np.isfinite(first.losses))
    start = untrained("plasticine", 1).law
    for net, rate in (("elastic", 1.0), ("plastic", 0.1)):
        for a, b in zip(getattr(one.law, net).linear, getattr(start, net).linear, strict=True):
            # Adam's first step is at most the rate, whatever the gradient.
            assert 0.0 < float((a.weight - b.weight).detach().abs().max()) < 1.001 * rate
    assert first.path(throw).shape == (200, len(throw.x), 3)


def test_a_budget_is_kept() -> None:
    seconds = iter(float(s) for s in range(100))
    found = train_baseline("jelly", motion(), 0, 5.5, throw=bits()[0], clock=lambda: next(seconds))
    assert found.epochs == 5 and PLASTIC["jelly"] is found.law.plastic is None


def test_checks_tell_what_the_networks_do_not_promise() -> None:
    found = {c.property: c for c in checks(untrained("jelly", 0), samples=200)}
    holds = {name for name, c in found.items() if c.passed}
    assert holds == {"objectivity", "rest state"}
    assert {"isotropy", "symmetry", "closed loops", "energy stated", "tangent at rest", "shear modulus"} < set(found)
    tau = kirchhoff(Perceptron(torch.Generator().manual_seed(0)).double(), torch.eye(3, dtype=torch.float64)[None])
    assert float(tau.detach().abs().max()) < 1e-12
