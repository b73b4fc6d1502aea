"""Steps that are divided where one as long as was asked for does not hold."""

from __future__ import annotations

from collections.abc import Callable

from physim.sim.state import FieldState
from physim.sim.trajectory import RolloutFailure, Status

HELPS = 0.5
"""Share of a step's defect that half of it must come down to: else the field is to blame, not the step."""
DOUBLED = 0.25
"""Share of the tolerance below which a step is as long as was asked for again; the defect grows with its square."""
CURED = (Status.MISSED, Status.INVERTED)
"""Failures that a shorter step may avoid."""


def divided(
    once: Callable[[FieldState, float], FieldState], state: FieldState, dt: float, tolerance: float, halvings: int
) -> FieldState:
    """The state `dt` [s] later, by one step or by 2, 4, 8, ... shorter ones, each of which holds.

    Args:
        once: takes a step and judges it, see `FieldState.defect`.
        state: where to begin.
        dt: how far to go [s].
        tolerance: largest defect of a step.
        halvings: how often a step may be halved.

    Raises:
        RolloutFailure: a step fails however short; or misses the tolerance though shorter ones do not help.
    """
    longer = False

    def go(begin: FieldState, h: float, left: int, tried: FieldState | RolloutFailure | None = None) -> FieldState:
        nonlocal longer
        if left and tried is None and begin.defect > DOUBLED * tolerance and 0 < begin.dt < 0.6 * h:
            # What did not hold before is tried again once each time, at twice its length.
            if longer or begin.dt < 0.3 * h:
                return go(go(begin, 0.5 * h, left - 1), 0.5 * h, left - 1)
            longer = True
        whole = tried or _attempt(once, begin, h)
        if isinstance(whole, FieldState) and whole.defect <= tolerance:
            return whole
        if not left or (isinstance(whole, RolloutFailure) and whole.status not in CURED):
            raise _told(whole, begin, h, tolerance, f"{dt:.3g} s were asked for" if h < dt else "")
        half = _attempt(once, begin, 0.5 * h)
        if (
            isinstance(whole, FieldState)
            and isinstance(half, FieldState)
            and half.defect > max(tolerance, HELPS * whole.defect)
        ):
            raise _told(whole, begin, h, tolerance, "half the step does not help")
        return go(go(begin, 0.5 * h, left - 1, half), 0.5 * h, left - 1)

    return go(state, dt, halvings)


def _attempt(
    once: Callable[[FieldState, float], FieldState], state: FieldState, dt: float
) -> FieldState | RolloutFailure:
    try:
        return once(state, dt)
    except RolloutFailure as failure:
        return failure


def _told(
    found: FieldState | RolloutFailure, state: FieldState, dt: float, tolerance: float, remark: str
) -> RolloutFailure:
    """The failure to raise."""
    status, detail = Status.MISSED, ""
    if isinstance(found, RolloutFailure):
        status, detail = found.status, found.detail
    else:
        detail = f"a step of {dt:.3g} s leaves {found.defect:.2g} of the equation's terms, {tolerance:g} is allowed"
    told = "; ".join(part for part in (detail, remark) if part)
    return RolloutFailure(status, substep=0, particle=-1, t=state.t, detail=told)
