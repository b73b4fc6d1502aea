"""The benchmark of laws: its rows run, and its ratios are those of its times."""

from __future__ import annotations

import pytest
import torch

from tools.bench import laws


def test_rows_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "SUBSTEPS", 2)
    names = ["fixed_corotated", laws.FREE, *laws.NETWORKS]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {r["law"]: r for r in laws.measure(names, 6, 1, 0.0, lambda _: None)}
    torch.set_num_threads(before)
    assert all(r["forward"] > 0 and r["both"] > 0 and len(r["samples"]) == 1 for r in found.values())
    ours, plain, fused = found["fixed_corotated"], found[laws.PLAIN], found["nclaw, fused, with flow"]
    assert ours["both_ratio"] == plain["both"] / ours["both"]
    assert ours["law_both_ratio"] == plain["law_both"] / ours["law_both"] and ours["law_both"] > ours["law_forward"] > 0
    assert fused["both_ratio"] == found[laws.PLAIN_FLOW]["both"] / fused["both"] and fused["law_both"] is None
    lines = list(laws.table(list(found.values())))
    assert len(lines) == 1 + len(names) and all(name in line for name, line in zip(names, lines[1:], strict=True))


def test_every_law_of_the_table_can_be_made() -> None:
    made = {name: make() for name, make in laws.laws().items()}
    assert sum(m.network is not None for m in made.values()) >= 7
    assert {n for n, m in made.items() if m.inelastic and m.inelastic.name != "fluid"} == {
        n for n in made if laws.flows(n)
    }
