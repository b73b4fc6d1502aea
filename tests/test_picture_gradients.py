"""Gradients of every loss of a video agree with central differences: by positions, and by a stiffness."""

from __future__ import annotations

import pytest

from tools.bench.picture_gradients import BAR, lines, measure


def test_gradients_of_every_loss() -> None:
    rows = list(measure(directions=2))
    assert len(rows) == 8 and all(len(r.errors) == 5 for r in rows)
    for row in rows:
        # Differences in single precision feel its rounding, which is not the same on every machine.
        assert row.errors["alone_32"] < 3 * BAR
        assert set(row.bad) <= {"alone_32"}, (row.loss, row.errors)
        assert row.errors["positions_64"] < 1e-6 and row.errors["E_64"] < 1e-6
        assert max(row.errors["positions_32"], row.errors["E_32"]) < 1e-4
    table = list(lines(rows))
    assert len(table) == 10 and "soft IoU" in table[4] and BAR == pytest.approx(1e-3)
