"""Elastic laws that are learned: networks whose weights are columns of theta, with the physics by construction."""

from physim.laws.neural.cann import cann, formula
from physim.laws.neural.energy import neural_energy
from physim.laws.neural.families import FAMILIES, family_options, learned_law

__all__ = ["FAMILIES", "cann", "family_options", "formula", "learned_law", "neural_energy"]
