"""Runs one kernel of a law on given particles, without a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import warp as wp

from physim.laws import Material
from physim.numeric import F64, Precision
from physim.solvers.mpm.wide_laws import wide_kernel


def run(
    stage: str, material: Material, *, precision: Precision = F64, each: bool = False, first: int = 0,
    count: int | None = None, **given: Any,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The arrays of a kernel after one launch; those that are not given begin as zeros.

    Args:
        stage, material, precision, each: as for `wide_kernel`.
        first, count: particles to work on; all of them unless given.
        given: arguments by name.
    """
    size = max(1, material.history_size)
    made = wide_kernel(material.laws, precision, size, stage, each)
    n = len(given["F"])
    stray = wp.full(1, value=2**31 - 1, dtype=wp.int32, device="cpu")
    numbers = {"first": first, "row": first, "count": n if count is None else count, "substep": 0, "stray": stray}
    arrays, values = {}, []
    for argument in made.adj.args:
        label = argument.label
        if label == "dt":
            values.append(precision.real(given["dt"]))
        elif label in numbers:
            values.append(numbers[label])
        else:
            rows = n if each or not label.endswith("theta") else 1
            kind = argument.type.dtype
            if label in given:
                tensor = given[label].detach().to(precision.torch).contiguous()
                arrays[label] = wp.array(tensor.numpy(), dtype=kind, device="cpu")
            else:
                arrays[label] = wp.zeros(rows, dtype=kind, device="cpu")
            values.append(arrays[label])
    wp.launch(made, 1, inputs=values, device="cpu")
    return {name: torch.from_numpy(np.asarray(a.numpy(), dtype=float)) for name, a in arrays.items()}


def padded(h: torch.Tensor) -> torch.Tensor:
    """A history with at least one column, as kernels have it."""
    return h if h.shape[1] else torch.zeros(len(h), 1, dtype=torch.float64)
