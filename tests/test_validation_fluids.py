"""The cheap end of the fluid cases, held to the bars of the validation table; and the table itself."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.validation import channels, dam_break, fluids
from tools.validation.report import Case, Row, relative, run_case, table, to_json


@pytest.mark.parametrize("dim", [2, 3])
def test_poiseuille_and_its_start_within_one_percent(dim: int) -> None:
    cells = 16 if dim == 2 else 12
    for row in channels.rows_of("poiseuille", channels.poiseuille, dim, cells, 0.01, ""):
        assert row.met, row


def test_couette_is_linear_in_the_end_and_follows_the_series() -> None:
    rows = channels.rows_of("couette", channels.couette, 2, 16, 0.005, "")
    assert rows[0].error is not None and rows[0].error < 1e-4
    assert all(r.met for r in rows[3:]), rows


def test_viscosity_does_not_depend_on_the_substep() -> None:
    rows = channels.viscosity_and_substep(cells=12)
    assert all(r.met for r in rows[1:]), rows


@pytest.mark.parametrize("dim", [2, 3])
def test_water_at_rest_keeps_its_pressure(dim: int) -> None:
    records = fluids.column(dim, 8, duration=0.5, frames=5)
    for row in fluids.column_rows(dim, "at rest", records[1:], 8):
        assert row.met, row


def test_the_volume_filter_calms_the_pressure_of_scattered_particles() -> None:
    worst = []
    for share in (0.0, 0.1):
        records = fluids.column(2, 8, scatter=0.5, volume_filter=share, duration=0.5, frames=5)
        means, single, force = fluids.column_rows(2, "scattered", records[-1:], 8)
        assert means.error is not None and single.error is not None and force.error is not None
        assert means.error < 0.04 and force.error < 0.02, (means, force)
        worst.append(single.error)
    assert worst[1] < 0.6 * worst[0]


def test_a_dropped_column_settles_to_its_weight() -> None:
    records = fluids.column(2, 8, balanced=False, bulk_viscosity=4000.0, duration=2.5, frames=5)
    for row in fluids.column_rows(2, "settled", records[-1:], 8)[1:]:
        assert row.met, row


def test_vortices_decay_at_the_stated_viscosity() -> None:
    nu = 0.01
    found = fluids.apparent(*fluids.vortices(64, nu, duration=0.2))
    assert relative(found, nu) < 0.02


def test_a_collapsing_column_keeps_its_volume() -> None:
    found = dam_break.collapse(2, 10)
    assert np.abs(found.ratio - 1).max() < 0.01
    assert np.abs(found.filling - 1).max() < 0.01
    # Energy bounds the front: no faster than a drained reservoir of infinite length, 2 sqrt(g H).
    assert np.gradient(found.front, found.t).max() < 2 * math.sqrt(9.81 * 2.0)


def test_a_row_tells_met_from_missed_and_a_nan_is_a_miss() -> None:
    row = Row("c", 2, "q", 1.02, 1.0, "m", relative(1.02, 1.0), 0.05)
    assert row.met
    assert Row("c", 2, "q", 1.1, 1.0, "m", 0.1, 0.05).met is False
    assert Row("c", 2, "q", math.nan, 1.0, "m", math.nan, 0.05).met is False
    assert Row("c", 2, "q", 1.0, None, "m", None, None).met is None


def test_a_crash_is_recorded_and_the_table_goes_on() -> None:
    def broken() -> list[Row]:
        raise ValueError("nothing here")

    outcomes = [run_case(Case("broken", broken, True)), run_case(Case("empty", lambda: [], True))]
    assert "nothing here" in outcomes[0].crash and not outcomes[1].crash
    assert table(outcomes).row_count == 1
    assert json.loads(to_json(outcomes))["crashes"].keys() == {"broken"}
