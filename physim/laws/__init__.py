"""Constitutive laws: elastic, viscous, inelastic; their parameters; and materials composed of them."""

from physim.laws import elastic, fluid, neural, plastic, polynomial, rubber, viscoelastic
from physim.laws.core import LAWS, ElasticLaw, InelasticLaw, ViscousLaw, get_law, names, register
from physim.laws.material import Material
from physim.laws.parameters import Param, lame

__all__ = [
    "LAWS",
    "ElasticLaw",
    "InelasticLaw",
    "Material",
    "Param",
    "ViscousLaw",
    "elastic",
    "fluid",
    "get_law",
    "lame",
    "names",
    "neural",
    "plastic",
    "polynomial",
    "register",
    "rubber",
    "viscoelastic",
]
