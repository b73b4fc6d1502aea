"""The benchmark of pictures: both programs draw the same, and ratios are those of the times."""

from __future__ import annotations

import torch

from tools.bench import splat


def test_rows_and_ratios() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = splat.measure([(32, 6)], 3, 1, lambda _: None, substeps=0)
    torch.set_num_threads(before)
    ours, plain = rows
    assert [r["program"] for r in rows] == list(splat.PROGRAMS) and ours["both_ratio"] == 1.0
    assert all(r["picture_error"] < 1e-5 and r["gradient_error"] < 1e-4 for r in rows)
    assert all(len(r["both_samples"]) == 3 and r["both"] > r["forward"] > 0 for r in rows)
    ratios = sorted(a / b for a, b in zip(plain["both_samples"], ours["both_samples"], strict=True))
    assert plain["both_ratio"] == ratios[1]
    lines = list(splat.table(rows))
    assert len(lines) == 3 and "torch" in lines[2]
