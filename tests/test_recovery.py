"""Two repeats of the calibration study: a known stiffness is found again, and its interval holds it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tools.recovery import Repeat, recover, summarise, table
from tools.recovery_cases import CASES, Recovery, Setup, cube
from tools.recovery_linear import Coverage, linear_coverage


def coarse_cube(value: float, refine: float) -> Setup:
    return cube(value, 0.8 * refine)


CUBE = dataclasses.replace(CASES["E"], frames=24, build=coarse_cube)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_known_value_is_recovered_from_either_side(seed):
    found = recover(CUBE, seed)
    assert found.start == found.truth * (0.5 if seed == 0 else 2.0)
    assert found.error < 0.02
    assert found.held
    assert 0.9 < found.noise < 1.1  # the residuals are the noise, and nothing else
    assert 0.002 < 0.5 * (found.high - found.low) / found.truth < 0.03


def test_the_noise_of_a_record_is_as_stated_and_follows_the_seed():
    case = CASES["E"]
    clean = [torch.zeros(case.frames + 1, 8, dtype=torch.float64)]
    first, again, other = (Recovery(case, clean, seed).records[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(case.noise, rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_claim():
    found = linear_coverage(CUBE, draws=200)
    # Three standard deviations of a count of 200 at 90 %.
    assert abs(found.held / found.draws - 0.9) < 0.064
    assert 0.85 < found.spread < 1.15


def test_a_summary_counts_misses_and_failures():
    good = Repeat("E", "same", 0, 1.0, 2.0, 2.1, 1.9, 2.3, 0.5, 1.0, 20, 3.0, "")
    missed = dataclasses.replace(good, low=2.05, score=1.5)
    failed = dataclasses.replace(good, value=math.nan, low=math.nan, high=math.nan, score=math.nan)
    found = summarise([good] * 18 + [missed, failed])
    assert (found.held, found.repeats, found.met) == (18, 20, True)
    assert found.median_error == pytest.approx(0.05)
    assert found.largest_error == math.inf
    assert summarise([good] * 8 + [missed]).met is False
    assert summarise([dataclasses.replace(missed, source="grid / 2")]).met is None
    assert "18/20 met" in table([found], {"E": Coverage("E", 1000, 903, 1.0)})
