"""How fast a machine is, and what is said about it; nothing here depends on how fast it is."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from physim.errors import InputError
from physim.speed import machine, survey
from physim.speed.cube import Cube, lattice
from physim.speed.verdict import causes, ratio, table, verdict

RATES = {"1": {"forward": 20.0, "gradient": 6.0}, "2": {"forward": 30.0, "gradient": 11.0}}
KNOWN: dict[str, Any] = {
    "processor": "reference",
    "cores": 2,
    "vector_sets": ["avx2"],
    "torch_threads": 2,
    "load": 0.1,
    "slowed": [],
    "particles": 8000,
    "bandwidth_gb_s": {"1": 30.0, "2": 45.0},
    "multiply_add_gflop_s": {"1": 200.0, "2": 400.0},
    "rates": {"jelly": RATES, "water": RATES},
    "share_of_cores": {"1": 1.0, "2": 0.97},
}


def other(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(KNOWN) | changes


def test_the_same_machine_has_nothing_to_do() -> None:
    assert ratio(KNOWN, KNOWN, "1") == pytest.approx(1.0) and causes(KNOWN, KNOWN) == []
    assert verdict(KNOWN, KNOWN)[-1].endswith("nothing to do.")


def test_more_threads_are_compared_with_the_most_of_the_other() -> None:
    rates = {"1": RATES["1"], "8": {"forward": 120.0, "gradient": 44.0}}
    many = other(rates={"jelly": rates, "water": rates}, torch_threads=8)
    many["bandwidth_gb_s"] = many["multiply_add_gflop_s"] = {"1": 200.0, "8": 400.0}
    assert ratio(many, KNOWN, "most") == pytest.approx(4.0)
    lines = list(table(many, KNOWN))
    assert any("8 threads" in line and line.endswith(" 4.00 on 2") for line in lines)


def slower(factor: float) -> dict[str, Any]:
    rates = {t: {k: factor * v for k, v in kinds.items()} for t, kinds in RATES.items()}
    return {"jelly": rates, "water": rates}


@pytest.mark.parametrize(
    ("changes", "word", "advice"),
    [
        ({"slowed": ["Warp compiles kernels in 'debug' mode"]}, "debug", "Remove that setting"),
        ({"share_of_cores": {"1": 0.5, "2": 0.6}, "load": 3.0}, "50 % of the core that", "idle"),
        ({"share_of_cores": {"1": 1.0, "2": 0.6}}, "40 % of the cores that 2 threads", "idle"),
        ({"vector_sets": ["sse4_2"]}, "AVX2", "processor"),
        ({"multiply_add_gflop_s": {"1": 50.0, "2": 100.0}}, "0.25 times as many", "core"),
        ({"bandwidth_gb_s": {"1": 8.0, "2": 9.0}}, "0.20 times as fast", "budget"),
        ({"bandwidth_gb_s": {"1": 30.0}, "torch_threads": 1}, "instead of 2", "more cores"),
        ({"torch_threads": 1}, "torch is set to 1 thread of 2", "set_num_threads(2)"),
    ],
)
def test_what_slows_a_machine_is_named_with_advice(changes: dict, word: str, advice: str) -> None:
    lines = verdict(other(rates=slower(0.5), **changes), KNOWN)
    assert "0.50 times" in lines[0]
    assert any(word in line for line in lines[1:-1])
    assert lines[-1].startswith("advice: ") and advice in lines[-1]


def test_what_others_take_away_is_not_blamed_on_the_memory() -> None:
    shares, memory = {"1": 0.6, "2": 0.5}, {"1": 8.0, "2": 1.0}
    assert len(causes(other(share_of_cores=shares, bandwidth_gb_s=memory), KNOWN)) == 1


def test_slowness_without_a_cause_is_said() -> None:
    assert "Nothing that was measured explains it" in verdict(other(rates=slower(0.3)), KNOWN)[-1]


def test_the_table_that_ships_is_complete_and_a_file_can_take_its_place(tmp_path: Path) -> None:
    shipped = survey.reference()
    assert "description" in shipped and set(shipped["rates"]) == {"jelly", "water"}
    assert math.isfinite(ratio(KNOWN, shipped, "most"))
    survey.write(KNOWN, tmp_path / "mine.json")
    assert survey.reference(tmp_path / "mine.json") == json.loads(json.dumps(KNOWN))
    (tmp_path / "bad.json").write_text("{}")
    for file in ("bad.json", "none.json"):
        with pytest.raises(InputError):
            survey.reference(tmp_path / file)
    with pytest.raises(InputError, match="cannot write"):
        survey.write(KNOWN, tmp_path / "no" / "where.json")


def test_a_survey_can_be_compared_with_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    best = machine.best
    monkeypatch.setattr(survey, "PARTICLES", 64)
    monkeypatch.setattr(machine, "best", lambda work, **_: best(work, within=0.0))
    before, told = torch.get_num_threads(), []
    found = survey.survey(told.append)
    assert torch.get_num_threads() == before and len(told) >= 5
    lines = [*table(found, survey.reference()), *verdict(found, survey.reference())]
    assert lines[-1].startswith("advice: ") and "nan" not in "".join(lines)
    assert all(0 < s <= 1 for s in found["share_of_cores"].values())


def test_the_limits_of_this_machine_are_above_zero() -> None:
    assert machine.bandwidth(1, megabytes=1) > 0.1
    assert machine.multiply_adds(1, count=1000) > 0.1
    assert machine.launch_cost(1) > 0 and machine.barrier_cost(2) > 0
    assert machine.cores() >= 1 and machine.processor()[0] and isinstance(machine.slowed(), list)


@pytest.mark.parametrize("material", ["jelly", "water"])
def test_the_work_has_a_gradient_that_memory_does_not_change(material: str) -> None:
    cube = Cube(material, lattice(64), dtype=torch.float64)
    assert cube.count == 64
    cube.forward(2)
    kept, again = cube.gradient(20), cube.gradient(20, memory=1)
    assert kept != 0 and again == pytest.approx(kept, rel=1e-9)
    with pytest.raises(InputError, match="jelly"):
        Cube("jely", lattice(64))
