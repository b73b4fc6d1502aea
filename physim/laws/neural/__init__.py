"""Elastic laws that are learned: networks whose weights are columns of theta, with the physics by construction."""

from physim.laws.neural.energy import neural_energy

__all__ = ["neural_energy"]
