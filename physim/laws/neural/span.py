"""Starting weights for strains of a known size: units and terms should bend within them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from physim.laws.neural.cann import TermWeights
from physim.laws.neural.terms import LOCK
from physim.laws.neural.weights import INNER, UnitWeights

ROOM = 2.0
"""A logarithmic term starts to lock at so many times the largest strain."""
SHARE = 10.0
"""Units of a convex energy start so many times as large as drawn: those near nothing are slow to grow."""
LEAST = 1e-4
"""Inputs that stay below this share of the largest one are taken as that large."""


def span_weights(network: Any, F: Tensor) -> dict[str, Tensor]:
    """Scale the weights of an elastic law, as they were drawn for strains of the order of one, to given strains.

    Args:
        network: weights of `neural_energy` without fibres, or of `cann`; any other is left as it is.
        F: deformation gradients that the law will be trained on, (n, 3, 3).

    Returns:
        By name, how large a change of raw weights is what a change by one was before; one where not named.
    """
    encoder = getattr(network, "encoder", None)
    if encoder is None or encoder.second in ("fibre", "none"):
        return {}
    measured = torch.vmap(encoder.measure.torch())(F)
    z = torch.vmap(encoder.inputs.torch())(measured, torch.linalg.det(F) - 1.0).abs().amax(dim=0)
    if not bool(z[0] > 0) or not bool(torch.isfinite(z).all()):
        return {}
    # Incompressible tests say nothing of the volume: its weights stay.
    size = torch.cat([z[:2].clamp_min(LEAST * float(z.max())), torch.ones(1, dtype=z.dtype)])
    with torch.no_grad():
        if isinstance(network, UnitWeights):
            return _span_units(network, size)
        if isinstance(network, TermWeights):
            return _span_terms(network, size[:2])
    return {}


def _span_units(network: UnitWeights, size: Tensor) -> dict[str, Tensor]:
    """Inner weights such that each input adds to its units what an input of one did, and outer ones to match."""
    inputs = size[list(network.encoder.used)]
    if not network.plan.convex:
        network.inner.div_(inputs)
        network.outer.mul_(size[0])
        return {"inner": (1.0 / inputs).expand_as(network.inner), "outer": size[0].expand_as(network.outer)}
    shear = INNER * network.inner[:, :-1]
    network.inner[:, :-1] = _raw(softplus(shear) / inputs[:-1]) / INNER
    network.outer.copy_(_raw(SHARE * size[0] * softplus(network.outer)))
    return {}


def _span_terms(network: TermWeights, size: Tensor) -> dict[str, Tensor]:
    """Exponents of the order of one over K, locks beyond K, and terms as small there as they were at one."""
    second = torch.stack([torch.ones_like(size[0]), size[0] / size[1]]).sqrt()
    if bool(network.follows[1]):
        # Of the volume too.
        size, second = torch.stack([size[0], torch.ones_like(size[0])]), torch.ones_like(second)
    bend = (second / size.sqrt())[:, None]
    network.linear.mul_(second)
    network.bend.mul_(bend)
    network.shape[:, 0].sub_(torch.log(size))
    network.shape[:, 1].add_(torch.log(ROOM * size / LOCK))
    return {"linear": second, "bend": bend.expand_as(network.bend)}


def _raw(value: Tensor) -> Tensor:
    """What softplus makes a positive value of."""
    return value + torch.log(-torch.expm1(-value))
