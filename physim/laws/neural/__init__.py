"""Laws that are learned: networks whose weights are columns of theta, with the physics by construction."""

from physim.laws.neural.cann import cann, formula
from physim.laws.neural.energy import neural_energy
from physim.laws.neural.families import FAMILIES, families_of, family_options, largest_law, learned_law
from physim.laws.neural.maxwell import neural_maxwell
from physim.laws.neural.plastic import neural_plastic
from physim.laws.neural.viscous import neural_viscous

__all__ = [
    "FAMILIES",
    "cann",
    "families_of",
    "family_options",
    "formula",
    "largest_law",
    "learned_law",
    "neural_energy",
    "neural_maxwell",
    "neural_plastic",
    "neural_viscous",
]
