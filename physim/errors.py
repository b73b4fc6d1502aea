"""The exception tree. Every message says where, what was given, what is allowed, and what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PhysimError(Exception):
    """Base of everything physim raises on purpose; the command line prints it without a traceback."""


class InputError(PhysimError):
    """Something the user supplied cannot be used: a scene key, a file, a mesh, a table, a number."""


class StabilityError(PhysimError):
    """A time step breaks the CFL or wave-speed limit."""


class SimulationError(PhysimError):
    """A rollout went wrong: non-finite state, particles outside the grid, or moving too fast."""


class GradientError(PhysimError):
    """A gradient is not finite, or was asked for where none exists."""


class FitError(PhysimError):
    """A fit cannot go on: no observations, nothing to fit, or an unusable checkpoint."""


class RankError(PhysimError):
    """Another process of a distributed run failed, ended, or did not answer in time."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest allowed name, or a list of the allowed names."""
    names = sorted(str(a) for a in allowed)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Allowed: {', '.join(names)}." if names else ""
