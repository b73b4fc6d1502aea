from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
import torch
from fit_toys import Oscillator

from physim.fit.loop import best_start, run_fit
from physim.fit.quantities import shown
from physim.fit.report import report_html, write_report
from physim.fit.result import FitResult
from physim.fit.scores import score
from physim.fit.stage import Stage
from physim.fit.uncertainty import assess


@pytest.fixture(scope="module")
def result():
    problem = Oscillator(dummy=True)
    position = run_fit(problem, [Stage("early", end=1.0), Stage("all")], [problem.space.factored(f) for f in (0.5, 2)])
    best = position.finished[best_start(position)].raw
    comparisons = [c for r in problem.recordings for c in problem.predict(r, best)]
    comparisons[1] = comparisons[1].within(None, 4.0)
    return FitResult(
        name="toy",
        title="A <toy> beam",
        space=problem.space,
        raw=best,
        uncertainty=assess(problem, best),
        comparisons=comparisons,
        scores=score(comparisons),
        position=position,
    )


def test_scores(result):
    a, b, held = result.scores
    assert (a.role, b.role, held.role) == ("fitted", "fitted", "held out")
    assert a.count == 120 and b.count + held.count == 120
    assert a.rms == pytest.approx(0.01, rel=0.2) and a.noise == pytest.approx(1.0, rel=0.2)
    assert a.r2 > 0.99 and a.relative == pytest.approx(a.rms / 1.15, rel=0.1)


def test_score_of_an_exact_constant_record():
    c = Oscillator(noise=0.0).predict("a", Oscillator().space.raw([4.0, 0.5]))[0]
    flat = dataclasses.replace(c, measured=torch.ones_like(c.measured), predicted=torch.ones_like(c.measured))
    (s,) = score([flat])
    assert s.rms == 0.0 and math.isnan(s.r2) and math.isnan(s.relative)


def test_report_is_self_contained(result, tmp_path):
    write_report(result, tmp_path / "report.html", pictures={"a picture": b"\x89PNG"})
    text = (tmp_path / "report.html").read_text()
    assert "A &lt;toy&gt; beam" in text and "<toy>" not in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert text.count("data:image/png") == 2 + 1 + 1
    for words in (
        "materials.beam.E",
        "90 % interval",
        "not determined",
        "do not determine materials.beam.nu",
    ):
        assert words in text
    assert "held out" in text and "a picture" in text and "start" in text


def test_json_has_plain_numbers(result, tmp_path):
    result.write_json(tmp_path / "result.json")
    data = json.loads((tmp_path / "result.json").read_text())
    E = data["parameters"]["materials.beam.E"]
    assert E["value"] == pytest.approx(4.0, rel=0.01) and E["low"] < E["value"] < E["high"] and E["unit"] == "Pa"
    assert data["parameters"]["materials.beam.nu"]["sd"] == "inf"
    assert len(data["starts"]) == 2 and data["best_start"] in (0, 1)


def test_values_are_readable():
    assert shown(263824.0, "Pa") == "263.8 kPa"
    assert shown(0.0031, "m") == "3.1 mm"
    assert shown(0.45, "") == "0.45"
    assert shown(-2.5, "m/s") == "-2.5 m/s"
    assert shown(math.inf, "Pa") == "∞" and shown(0.0, "Pa") == "0 Pa"
    assert shown(1070.0, "kg/m^3") == "1070 kg/m^3"


def test_report_without_starts_marked(result):
    assert report_html(result).count("best</td>") == 1
