"""Learning a law from the full state of all particles: short runs from observed states, many side by side as worlds."""

from __future__ import annotations
