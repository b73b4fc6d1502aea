"""The cheap end of the cases of solids, sand and gradients, held to the bars of the validation table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tools.validation import bars, beam, gradients, granular, solids


@pytest.mark.parametrize("dim", [2, 3])
def test_free_fall_in_single_precision(dim: int) -> None:
    assert max(solids.fall(dim, steps=300)) < 1e-5


@pytest.mark.parametrize("dim", [2, 3])
def test_momenta_of_a_tumbling_block(dim: int) -> None:
    assert max(solids.tumble(dim, torch.float32, steps=300)) < 1e-5
    assert max(solids.tumble(dim, torch.float64, steps=100)) < 1e-13


def test_a_spinning_disk_keeps_its_energy() -> None:
    assert abs(solids.spinning(2, 5) - 1) < 1e-3


def test_colliding_disks_lose_less_with_a_blended_transfer() -> None:
    plain, blended = solids.collide(2, 4, 0.0), solids.collide(2, 4, solids.BLEND)
    assert max(plain[0], blended[0]) < 1.0001
    assert plain[1] < blended[1]
    assert max(plain[2], blended[2]) < 1e-12


@pytest.mark.parametrize("fixed", [False, True])
def test_frequency_of_a_bar_at_25_cells(fixed: bool) -> None:
    error, loss = bars.bar_frequency(2, 25, fixed, periods=2.0)
    assert abs(error) < 3e-3
    assert 0 <= loss < 2e-3


def test_wave_speed() -> None:
    speed, exact = bars.wave_speed(2)
    assert abs(speed / exact - 1) < 0.02


def test_low_points_are_found_between_records() -> None:
    t = np.arange(0, 2.5, 0.01)
    low = beam.lowest(t, beam.MEAN * (1 - np.cos(2 * math.pi * t / 0.903)))
    assert [a for a, _ in low] == pytest.approx([0.4515, 1.3545, 2.2575], abs=1e-4)


def test_front_of_a_wedge() -> None:
    """A wedge of volume spread evenly along x: its front lies where it is as thin as the definition says."""
    dx, length, height = 0.005, 0.3, 0.1
    x = (np.arange(30000) + 0.5) / 30000 * length
    vol0 = height * (1 - x / length) * length / 30000
    expected = length * (1 - granular.THIN * granular.WIDTH / height)
    assert granular.front(x, vol0, dx) == pytest.approx(expected, abs=0.1 * dx)


def test_a_steep_bed_moves_and_a_flat_one_does_not() -> None:
    """Sand that does not dilate moves above atan(sin 30 deg) = 26.6 deg, sand that does by 30 deg above 30 deg."""
    assert granular.creep(25.0, 30.0, span=0.3) < 0.01
    assert granular.creep(29.0, 30.0, span=0.3) > 0.1
    assert granular.creep(29.0, 30.0, psi=30.0, span=0.3) < 0.01
    assert granular.creep(31.5, 30.0, psi=30.0, span=0.3) > 0.1


@pytest.mark.parametrize("name", ["elastic", "plastic", "viscoelastic"])
def test_gradients_of_a_scene(name: str) -> None:
    for row in gradients.scene_rows(name, dims=(2,)):
        assert row.met is not False, row


def test_closed_form_gradients_of_free_fall_and_bar() -> None:
    for row in [*gradients.free_fall_rows(2, steps=20), gradients.bar_row(2)]:
        assert row.met, row
