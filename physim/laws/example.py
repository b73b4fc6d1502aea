"""A plausible material around one law, so that any registered law can be checked or plotted alone."""

from __future__ import annotations

from physim.laws.core import LAWS, ElasticLaw, InelasticLaw, Law, ViscousLaw, get_law
from physim.laws.elastic import hencky, neo_hookean
from physim.laws.fluid import fluid_quadratic
from physim.laws.material import Material
from physim.laws.parameters import Param

DENSITY = 1000.0


def _value(param: Param) -> float:
    if param.typical is not None:
        return param.typical
    return 1.0 if param.default is None else param.default


def example_material(law: str | Law) -> Material:
    """A material of 1000 kg/m^3 with the typical value of every parameter.

    An inelastic law that reads mu and lam is put on hencky, one that forgets the shape on a fluid, the rest on
    neo_hookean.
    """
    if isinstance(law, str):
        law = LAWS[law] if law in LAWS else get_law(law, ElasticLaw)
    base = neo_hookean
    if isinstance(law, InelasticLaw):
        base = hencky if law.needs else neo_hookean
        base = fluid_quadratic if law.forgets_shape else base
    parts = {ElasticLaw: (law, None, None), ViscousLaw: (base, law, None), InelasticLaw: (base, None, law)}
    elastic, viscous, inelastic = parts[type(law)]
    values = {p.name: _value(p) for part in (elastic, viscous, inelastic) if part for p in part.params}
    return Material(elastic, viscous, inelastic, rho0=DENSITY, values=values)
