"""Ten seconds of measurement on this machine, as plain data that another machine can be compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from physim.errors import InputError
from physim.solvers.mpm.layout import SLABS
from physim.speed import machine
from physim.speed.cube import MATERIALS, Cube, lattice

PARTICLES = 8000
SUBSTEPS = {"forward": 40, "gradient": 40}
DESCRIPTION = (
    "How fast physim is on one machine, best of several runs: million particle-substeps per second (rates), a STREAM "
    "triad [GB/s] and multiply-adds in float32 [GFLOP/s], by threads. Written by `physim doctor --bench --json FILE`, "
    "read by `physim doctor --bench --against FILE`."
)
KINDS = {"forward": "forward", "gradient": "forward + backward"}


def survey(tell: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Speed of the solver on one thread and on all, beside the limits of the machine; the best of a few samples each.

    Args:
        tell: called with what is measured next.
    """
    name, sets = machine.processor()
    threads = sorted({1, min(machine.cores(), SLABS)})
    found: dict[str, Any] = {
        "description": DESCRIPTION,
        "processor": name,
        "cores": machine.cores(),
        "vector_sets": sorted(sets & {"sse4_2", "avx", "avx2", "fma", "avx512f", "asimd", "sve"}),
        "torch": version("torch"),
        "warp": version("warp-lang"),
        "torch_threads": torch.get_num_threads(),
        "load": machine.load(),
        "slowed": machine.slowed(),
        "particles": PARTICLES,
    }
    tell("memory and arithmetic")
    found["bandwidth_gb_s"] = {str(t): machine.bandwidth(t) for t in threads}
    found["multiply_add_gflop_s"] = {str(t): machine.multiply_adds(t) for t in threads}
    found["rates"] = {}
    shares: dict[str, list[float]] = {}
    for count in threads:
        torch.set_num_threads(count)
        for material in MATERIALS:
            cube = Cube(material, lattice(PARTICLES), threads=count)
            for kind, substeps in SUBSTEPS.items():
                tell(f"{material}, {KINDS[kind]}, {count} thread{'s' * (count > 1)}")
                work = getattr(cube, kind)
                seconds = machine.best(lambda w=work, n=substeps: w(n))
                rate = cube.count * substeps / seconds / 1e6
                found["rates"].setdefault(material, {}).setdefault(str(count), {})[kind] = rate
                share = machine.share_of_cores(lambda w=work, n=substeps: w(n), count)
                shares.setdefault(str(count), []).append(share)
    torch.set_num_threads(found["torch_threads"])
    found["share_of_cores"] = {t: sum(s) / len(s) for t, s in shares.items()}
    return found


def reference(file: Path | None = None) -> dict[str, Any]:
    """The figures to compare with: those that ship, or a file that `physim doctor --bench --json` has written.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    source = resources.files("physim.speed").joinpath("reference.json") if file is None else file
    try:
        table = json.loads(source.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {source}: {error}") from None
    needed = ("processor", "bandwidth_gb_s", "multiply_add_gflop_s", "rates")
    if not isinstance(table, dict) or not all(isinstance(table.get(n), (dict, str)) for n in needed):
        raise InputError(f"{source} is no table of speeds; make one with `physim doctor --bench --json FILE`.")
    return table


def write(found: dict[str, Any], file: Path) -> None:
    """Write what `survey` has found.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        file.write_text(json.dumps(found, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error}") from None
