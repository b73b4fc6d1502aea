"""Weights of a learned law as one vector: what a fit moves, and columns of theta that follow it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from physim.errors import InputError


def flat_weights(network: nn.Module) -> Tensor:
    """All raw weights one after the other, in the order of the module's parameters, (w,)."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def split_weights(network: nn.Module, flat: Tensor) -> dict[str, Tensor]:
    """The parts of a vector (w,) by name and in the shape of the module's parameters; views that carry gradients.

    Raises:
        InputError: a vector of another length.
    """
    named = dict(network.named_parameters())
    sizes = [p.numel() for p in named.values()]
    if flat.shape != (sum(sizes),):
        raise InputError(f"{sum(sizes)} weights are needed, not a tensor of shape {tuple(flat.shape)}.")
    return {n: t.reshape(p.shape) for (n, p), t in zip(named.items(), flat.split(sizes), strict=True)}


def put_weights(network: nn.Module, flat: Tensor) -> None:
    """Set all raw weights from a vector, (w,)."""
    parts = split_weights(network, flat)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(parts[name])


def with_weights(network: Any, flat: Tensor) -> Any:
    """A view of the module whose `columns` are of these weights, (w,), with their gradients.

    The module itself is not touched, so several threads may have views of it at once.
    """
    view = copy.copy(network)
    view.__dict__["_parameters"] = split_weights(network, flat)
    return view
