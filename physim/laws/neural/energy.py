"""Learned elastic energies: an encoder, a layer of units and a head that keeps the moduli at rest.

psi = (mu/2 - c) z[0] + c z[1] + k U(z[2]) + sum_i A_i g_i(w_i . z); see `encoders`, `units` and `weights`.
"""

from __future__ import annotations

from functools import cache

from physim.laws.core import ElasticLaw, register
from physim.laws.neural import encoders, units
from physim.laws.neural.encoders import get_encoder
from physim.laws.neural.weights import HEAD, UnitPlan
from physim.numeric import Numeric, Word, mat33, numeric, params, real, vec3

# Bound per law: the encoder's functions, those of the units, where columns are, and whether z[1] carries shear at rest.
measure = inputs = spread = volume_energy = volume_slope = unit_energy = unit_slopes = Word
SECOND = VOLUME = 0
SHARE = 0.0


@numeric
def neural_energy_density(F: mat33, theta: params) -> real:
    """Energy psi = (mu/2 - c) z[0] + c z[1] + k U(z[2]) + sum_i A_i g_i(w_i . z) [J/m^3], z the encoder's."""
    z = inputs(measure(F))
    shape = (real(0.5) * theta[0] - real(SHARE) * theta[SECOND]) * z[0] + theta[SECOND] * z[1]
    return shape + theta[VOLUME] * volume_energy(z[2]) + unit_energy(z, theta)


@numeric
def neural_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = dpsi/dF F^T [Pa] in closed form, from the slopes dpsi/dz."""
    M = measure(F)
    z = inputs(M)
    slopes = vec3(
        real(0.5) * theta[0] - real(SHARE) * theta[SECOND],
        theta[SECOND],
        theta[VOLUME] * volume_slope(z[2]),
    )
    return spread(M, z, slopes + unit_slopes(z, theta))


def neural_energy(encoder: str = "invariants", hidden: int = 16, convex: bool = False) -> ElasticLaw:
    """The law of a learned energy of one size; the same law for the same arguments.

    Args:
        encoder: "invariants" (K1, K2, J), "hencky" (size, kind and volume of the logarithmic strain) or "volume" (J
            alone: fluids).
        hidden: number of units, 1 to 256.
        convex: polyconvex in F.

    Raises:
        InputError: an unknown encoder, or one that makes no polyconvex energy.
    """
    return _law(UnitPlan(encoder, hidden, convex))


@cache
def _law(plan: UnitPlan) -> ElasticLaw:
    encoder = get_encoder(plan.encoder, plan.convex)
    first = len(encoder.params)
    ending = f"{plan.encoder}_{plan.hidden}" + ("_convex" if plan.convex else "")
    sizes = {"FIRST": first + HEAD, "HIDDEN": plan.hidden}
    energy, slope = encoder.volume
    names = {
        "measure": encoder.measure,
        "inputs": encoder.inputs,
        "spread": encoder.spread,
        "volume_energy": energy,
        "volume_slope": slope,
        "unit_energy": units.unit_energy.bound(f"_{ending}", **sizes),
        "unit_slopes": units.unit_slopes.bound(f"_{ending}", **sizes),
        "SECOND": first,
        "VOLUME": first + 1,
        "SHARE": 1.0 if encoder.second == "even" else 0.0,
    }

    def made(source: Numeric) -> Numeric:
        return source.bound(f"_{ending}", **names)

    return ElasticLaw(
        "neural_energy" if plan == UnitPlan() else f"neural_energy_{ending}",
        encoder.params,
        made(neural_kirchhoff),
        made(neural_energy_density),
        encoder.moduli,
        "Linden et al. 2023, doi:10.1016/j.jmps.2023.105363, for networks that keep the physics of hyperelasticity",
        f"learned energy of {plan.hidden} units in {encoder.words}",
        plan,
    )


default = register(neural_energy())

__all__ = ["default", "encoders", "neural_energy", "units"]
