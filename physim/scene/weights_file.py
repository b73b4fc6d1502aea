"""Weights of learned laws in safetensors files: what law they are of, and every number as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physim.errors import InputError, nearest
from physim.scene.document import display
from physim.scene.rundir import write_atomic

if TYPE_CHECKING:
    from torch import nn

FORMAT = "physim-weights-1"
ENDING = ".safetensors"


def write_weights(path: Path, network: nn.Module) -> None:
    """Write the weights of a learned law, whole or not at all."""
    from safetensors.torch import save

    plan: Any = network.plan
    words = {"format": FORMAT, "law": plan.family, "options": json.dumps(plan.options())}
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in network.named_parameters()}
    write_atomic(path, save(tensors, metadata=words))


def read_weights(path: Path) -> nn.Module:
    """The weights that `write_weights` wrote, as the module of their law.

    Raises:
        InputError: not a safetensors file of a learned law, or weights that do not fit the law it names.
    """
    from safetensors import SafetensorError, safe_open

    from physim.laws.neural import learned_law

    name = display(path)
    if path.suffix != ENDING:
        raise InputError(f"{name}: weights are read from {ENDING} files only.")
    try:
        with safe_open(str(path), framework="pt") as stream:
            words = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{name}: cannot be read as safetensors ({error}); it may have been cut short.") from None
    if words.get("format") != FORMAT:
        told = repr(words.get("format"))
        raise InputError(f"{name}: no weights of a law (format {told}, expected '{FORMAT}').")
    try:
        options = json.loads(words.get("options", ""))
        if not isinstance(options, dict):
            raise ValueError("not a mapping")
    except ValueError as error:
        raise InputError(f"{name}: its options are unreadable ({error}).") from None
    try:
        law = learned_law(words.get("law", ""), options)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    assert law.network is not None
    network = law.network.make(0)
    problems = fill(network, tensors)
    if problems:
        raise InputError(f"{name}: not the weights of {law.name}: {'; '.join(problems)}.")
    return network


def fill(network: nn.Module, tensors: dict[str, Any]) -> list[str]:
    """Copy tensors into the weights of these names; nothing is changed if the sentences returned say what is wrong."""
    import torch

    wanted = dict(network.named_parameters())
    problems = []
    for key, weight in wanted.items():
        if key not in tensors:
            problems.append(f"'{key}' of shape {tuple(weight.shape)} is missing")
        elif tensors[key].shape != weight.shape:
            problems.append(f"'{key}' has shape {tuple(tensors[key].shape)}, expected {tuple(weight.shape)}")
        elif not tensors[key].is_floating_point() or not bool(torch.isfinite(tensors[key]).all()):
            problems.append(f"'{key}' holds what is no finite number")
    problems += [f"'{key}' is unknown.{nearest(key, wanted)}".rstrip(".?") for key in tensors if key not in wanted]
    if not problems:
        with torch.no_grad():
            for key, weight in wanted.items():
                weight.copy_(tensors[key])
    return problems
