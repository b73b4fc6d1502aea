"""What must hold of every particle after a substep: finite numbers, and a positive volume where the law needs one."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import warp as wp

from physim.bridge import Arrays, Replay
from physim.laws.material import Material
from physim.numeric import Precision, kernel
from physim.sim.model import Model
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm.kernels import examine

_NEVER = np.iinfo(np.int64).max
FAILURES = (
    (Status.NONFINITE, "velocity v"),
    (Status.LEFT_GRID, "position x"),
    (Status.TOO_FAST, "velocity v"),
    (Status.NONFINITE, "position x"),
    (Status.NONFINITE, "velocity v"),
    (Status.NONFINITE, "affine velocity C"),
    (Status.NONFINITE, "deformation gradient F"),
    (Status.NONFINITE, "history h"),
    (Status.INVERTED, "deformation gradient F"),
)
"""Status and quantity of each entry of the failure record; the first three are written while particles move."""


@cache
def examine_kernel(precision: Precision, wide: int) -> Any:
    """The check in one precision, for models whose widest history is `wide`."""
    bound = {"wide_history": precision.vector(wide)}
    return kernel(examine, precision, module=f"physim_mpm_examine_{wide}", differentiable=False, **bound)


def needs_volume(material: Material) -> bool:
    """Whether the law has no meaning at det F <= 0: its stress is not finite there, or resists collapse without bound.

    Laws that pass through a collapsed particle at finite force (corotated, Saint Venant-Kirchhoff) do not need it.
    """
    s = torch.tensor([-0.5, 0.5, 1e-6], dtype=torch.float64)
    F = torch.diag_embed(torch.stack([s, torch.ones_like(s), torch.ones_like(s)], dim=1))
    with torch.no_grad():
        rest = material.rest_history(1).to(F).expand(3, -1) if material.history_size else None
        tau = material.kirchhoff(F, h=rest, theta=material.theta()[:1].expand(3, -1))[:, 0, 0]
    force = (tau / s).abs()
    return not bool(torch.isfinite(force[0])) or float(force[2]) > 100.0 * float(force[1])


class Record:
    """Where the kernels note failures: per kind, the first substep and in it the lowest particle."""

    def __init__(self, model: Model, worlds: int, precision: Precision, device: Any) -> None:
        self._model, self._worlds, self._device = model, worlds, device
        self._examine_kernel = examine_kernel(precision, max(1, model.history_size))
        self._positive = [int(needs_volume(m)) for m in model.materials]
        self.status = wp.full(len(FAILURES), value=_NEVER, dtype=wp.int64, device=device)

    def clear(self) -> None:
        """Forget everything."""
        self.status.fill_(_NEVER)

    def failed(self) -> bool:
        """Whether anything has been noted; waits for the device."""
        return bool((self.status.numpy() != _NEVER).any())

    def settle(self, last: Arrays, count: int, replay: Replay, dt: float, t: float) -> None:
        """Raise `RolloutFailure` for the first of `count` substeps of `dt` [s] from time `t` [s] that failed.

        The whole state is examined at the end of the segment only; where something is wrong, `replay` runs the segment
        again and gives the state at the start and after each substep, before it runs the next.
        """
        self._examine(last, count - 1)
        found = self._first()
        if found is None:
            return
        before = last
        for k, state in enumerate(replay()):
            self._examine(state, max(0, k - 1))
            again = self._first()
            if again is not None:
                raise self._failure(again, before if k else state, state, dt, t)
            before = state
        raise self._failure(found, last, last, dt, t)

    def _examine(self, state: Arrays, substep: int) -> None:
        for body in self._model.bodies:
            columns = self._model.materials[body.material].history_size
            size = body.stop - body.start
            values = [*(state[n] for n in ("x", "v", "C", "F", "h")), body.start, size]
            values += [self._model.vol0.shape[0], columns, self._positive[body.material], substep, self.status]
            wp.launch(self._examine_kernel, self._worlds * size, values, device=self._device, record_tape=False)

    def _first(self) -> tuple[int, int] | None:
        """Substep with particle in one number, and the kind of failure."""
        keys = self.status.numpy()
        return min(((int(key), kind) for kind, key in enumerate(keys) if key != _NEVER), default=None)

    def _failure(self, found: tuple[int, int], before: Arrays, after: Arrays, dt: float, t: float) -> RolloutFailure:
        """The failure with its numbers, from the states before and after the substep."""
        key, kind = found
        substep, particle = divmod(key, 2**32)
        status, quantity = FAILURES[kind]
        dx, detail = self._model.grid.dx, ""
        at = after["x"].numpy()[particle]
        if status is Status.TOO_FAST:
            cells = float(np.linalg.norm(at - before["x"].numpy()[particle])) / dx
            speed = cells * dx / dt
            detail = f"{speed:.3g} m/s over dt = {dt:.3g} s is {cells:.3g} cells of {dx:g} m; "
            detail += f"half a cell allows dt <= {0.5 * dx / speed:.2g} s" if speed > 0 else ""
        elif status is Status.LEFT_GRID:
            detail = f"it is at ({', '.join(f'{float(c):.4g}' for c in at)}) m"
        elif status is Status.INVERTED:
            detail = f"det F = {np.linalg.det(after['F'].numpy()[particle].astype(float)):.3g}"
        world, particle = divmod(particle, self._model.vol0.shape[0])
        if self._worlds == 1:
            world = None
        return RolloutFailure(
            status,
            substep=substep,
            particle=particle,
            world=world,
            t=t + substep * dt,
            quantity=quantity,
            detail=detail,
        )
