"""Checks at public doors: shapes and finiteness of tensors and arrays."""

from __future__ import annotations

from typing import Any

from physim.errors import InputError


def check_shape(name: str, value: Any, expected: tuple[int | None, ...]) -> None:
    """Raise `InputError` unless `value.shape` matches `expected` (None matches any length)."""
    shape = tuple(value.shape)
    fits = len(shape) == len(expected) and all(e is None or e == s for s, e in zip(shape, expected, strict=True))
    if not fits:
        want = "(" + ", ".join("n" if e is None else str(e) for e in expected) + ")"
        raise InputError(f"{name}: expected shape {want}, got {shape}.")


def check_finite(name: str, value: Any) -> None:
    """Raise `InputError` naming the first non-finite entry of a torch tensor or numpy array."""
    import numpy as np

    array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise InputError(f"{name}: {len(bad)} non-finite value(s), the first at index {where}: {array[where]}.")
