"""Nested dicts and lists of tensors and plain values as bytes, without anything that could run when they are read."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

PLAN = "plan"
"""Name of the entry that says where each tensor goes."""


def to_bytes(tree: Any) -> bytes:
    """A tree of tensors, numbers, strings, lists, tuples, dicts and None as bytes; numbers keep every bit.

    Raises:
        TypeError: the tree holds something else.
    """
    tensors: dict[str, Tensor] = {}
    plan = json.dumps(flatten(tree, tensors)).encode()
    return save({**tensors, PLAN: torch.frombuffer(bytearray(plan), dtype=torch.uint8)})


def from_bytes(data: bytes) -> Any:
    """The tree that `to_bytes` was given, its tensors on the CPU."""
    tensors = load(data)
    return rebuild(json.loads(bytes(tensors.pop(PLAN).tolist())), tensors)


def flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON plan of `value`; its tensors go to `tensors` under running names.

    Raises:
        TypeError: `value` holds something that a tree cannot.
    """
    if isinstance(value, Tensor):
        name = f"t{len(tensors):05d}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        pairs = [[flatten(k, tensors), flatten(v, tensors)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, (list, tuple)):
        return {"list" if isinstance(value, list) else "tuple": [flatten(v, tensors) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"plain": value}
    raise TypeError(f"cannot hold a {type(value).__name__}")


def rebuild(plan: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `flatten`."""
    ((kind, content),) = plan.items()
    if kind == "tensor":
        return tensors[content].clone()
    if kind == "dict":
        return {rebuild(k, tensors): rebuild(v, tensors) for k, v in content}
    if kind == "list":
        return [rebuild(v, tensors) for v in content]
    if kind == "tuple":
        return tuple(rebuild(v, tensors) for v in content)
    return content
