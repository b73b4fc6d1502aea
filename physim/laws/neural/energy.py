"""Learned elastic energies: an encoder, a layer of units and a head that keeps the moduli at rest.

psi = (mu/2 - c) z[0] + c z[1] + d z[0]^2/2 + k U(z[2]) + h z[2]^2/2 - v (sqrt(1 + z[2]^2) - 1)
+ sum_i A_i g_i(w_i . z), where c stands in the first coefficient only if z[1] carries shear at rest; see `encoders`,
`units` and `weights`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import warp as wp

from physim.laws.core import ElasticLaw, register
from physim.laws.neural import units
from physim.laws.neural.encoders import Encoder, get_encoder
from physim.laws.neural.weights import HEAD, UnitPlan
from physim.numeric import Numeric, Word, mat33, numeric, params, real, vec3

# Bound per law: the encoder's functions, the network's, where columns are, and whether z[1] carries shear at rest.
measure = inputs = spread = volume_energy = volume_slope = network_energy = network_slopes = Word
SECOND = VOLUME = PLAIN = SQUARE = OFF = 0
SHARE = 0.0


@numeric
def head_energy(z: vec3, theta: params) -> real:
    """All of psi that no unit makes [J/m^3]."""
    shape = (real(0.5) * theta[0] - real(SHARE) * theta[SECOND]) * z[0] + theta[SECOND] * z[1]
    root = wp.sqrt(real(1.0) + z[2] * z[2])
    bowl = (real(0.5) * theta[PLAIN] - theta[OFF] / (real(1.0) + root)) * z[2] * z[2]
    return shape + real(0.5) * theta[SQUARE] * z[0] * z[0] + theta[VOLUME] * volume_energy(z[2]) + bowl


@numeric
def head_slopes(z: vec3, theta: params) -> vec3:
    """Its slopes in z [Pa]."""
    return vec3(
        real(0.5) * theta[0] - real(SHARE) * theta[SECOND] + theta[SQUARE] * z[0],
        theta[SECOND],
        theta[VOLUME] * volume_slope(z[2]) + (theta[PLAIN] - theta[OFF] / wp.sqrt(real(1.0) + z[2] * z[2])) * z[2],
    )


@numeric
def neural_energy_density(F: mat33, theta: params) -> real:
    """Energy psi = head(z) + sum_i A_i g_i(w_i . z) [J/m^3], z the encoder's."""
    z = inputs(measure(F), wp.determinant(F) - real(1.0))
    return head_energy(z, theta) + network_energy(z, theta)


@numeric
def neural_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = dpsi/dF F^T [Pa] in closed form, from the slopes dpsi/dz."""
    M = measure(F)
    z = inputs(M, wp.determinant(F) - real(1.0))
    return spread(M, z, head_slopes(z, theta) + network_slopes(z, theta))


@numeric
def fibre_energy_density(F: mat33, a: vec3, theta: params) -> real:
    """Energy psi = head(z) + sum_i A_i g_i(w_i . z) [J/m^3], z of F and of a fibre along a at rest."""
    z = inputs(measure(F), F @ a, wp.determinant(F) - real(1.0))
    return head_energy(z, theta) + network_energy(z, theta)


@numeric
def fibre_kirchhoff(F: mat33, a: vec3, theta: params) -> mat33:
    """Stress tau = dpsi/dF F^T [Pa] in closed form, from the slopes dpsi/dz."""
    M = measure(F)
    f = F @ a
    z = inputs(M, f, wp.determinant(F) - real(1.0))
    return spread(M, f, z, head_slopes(z, theta) + network_slopes(z, theta))


def neural_energy(encoder: str = "invariants", hidden: int = 16, convex: bool = False) -> ElasticLaw:
    """The law of a learned energy of one size; the same law for the same arguments.

    Args:
        encoder: "invariants" (K1, K2, J), "stretches" (|V - I|, tr V, J with V^2 = F F^T), "hencky" (size, kind and
            volume of the logarithmic strain), "fibre" (K1, the stretch of a family of fibres, J) or "volume" (J alone:
            fluids).
        hidden: number of units, 1 to 256.
        convex: polyconvex in F.

    Raises:
        InputError: an unknown encoder, or one that makes no polyconvex energy.
    """
    return _law(UnitPlan(encoder, hidden, convex))


@cache
def _law(plan: UnitPlan) -> ElasticLaw:
    encoder = get_encoder(plan.encoder, plan.convex)
    ending = f"{plan.encoder}_{plan.hidden}" + ("_convex" if plan.convex else "")
    return make_law(
        encoder,
        plan,
        "neural_energy" if plan == UnitPlan() else f"neural_energy_{ending}",
        (units.unit_energy, units.unit_slopes),
        "Linden et al. 2023, doi:10.1016/j.jmps.2023.105363, for networks that keep the physics of hyperelasticity",
        f"learned energy of {plan.hidden} units in {encoder.words}",
        HIDDEN=plan.hidden,
    )


def make_law(
    encoder: Encoder,
    plan: Any,
    name: str,
    network: tuple[Numeric, Numeric],
    cite: str,
    summary: str,
    **names: Any,
) -> ElasticLaw:
    """A law of an encoder, a network and the head.

    Args:
        encoder: what the network reads.
        plan: the law's `network`; its first columns are the head's.
        name: of the law, unlike that of any other.
        network: `(z, theta) -> psi` and `(z, theta) -> dpsi/dz`, both zero at rest; they find their columns from FIRST.
        cite: source.
        summary: one line.
        names: what else the network's sources name: sizes, functions.
    """
    first = len(encoder.params)
    own = {"FIRST": first + HEAD, **names}
    head = {
        "volume_energy": encoder.volume[0],
        "volume_slope": encoder.volume[1],
        **{column: first + i for i, column in enumerate(("SECOND", "VOLUME", "PLAIN", "SQUARE", "OFF"))},
        "SHARE": 1.0 if encoder.second == "even" else 0.0,
    }
    bound = {
        "measure": encoder.measure,
        "inputs": encoder.inputs,
        "spread": encoder.spread,
        "head_energy": head_energy.bound(f"_{name}", **head),
        "head_slopes": head_slopes.bound(f"_{name}", **head),
        "network_energy": network[0].bound(f"_{name}", **own),
        "network_slopes": network[1].bound(f"_{name}", **own),
    }
    fibre = encoder.second == "fibre"
    sources = (fibre_kirchhoff, fibre_energy_density) if fibre else (neural_kirchhoff, neural_energy_density)
    kirchhoff, energy = (f.bound(f"_{name}", **bound) for f in sources)
    return ElasticLaw(name, encoder.params, kirchhoff, energy, encoder.moduli, cite, summary, plan, fibre)


default = register(neural_energy())
