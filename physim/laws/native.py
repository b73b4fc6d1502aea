"""From the values that users give to the columns of theta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from physim.errors import InputError, nearest
from physim.laws.compose import Composition
from physim.laws.parameters import ELASTIC_CONSTANTS, Param, is_pair, shear_and_bulk


def user_table(laws: Composition, given: dict[str, Any]) -> dict[str, Param]:
    """The parameters by user-facing name: native ones, with a pair of elastic constants in place of mu and lam.

    Raises:
        InputError: unknown, missing or contradicting names.
    """
    owner = laws.name
    natives = {p.name: p for p in laws.params}
    moduli = [n for n in ("mu", "lam", "bulk_modulus") if n in natives]
    constants = [n for n in given if n in ELASTIC_CONSTANTS]
    table = dict(natives)
    if len(moduli) == 2 and set(constants) != set(moduli):
        if not is_pair(constants):
            got = ", ".join(constants) or "none"
            raise InputError(
                f"{owner}: give two elastic constants, such as E and nu, or {' and '.join(moduli)}; got {got}."
            )
        table = {n: ELASTIC_CONSTANTS[n] for n in constants} | {n: p for n, p in natives.items() if n not in moduli}
    elif "bulk_modulus" in moduli and "nu" in given and "bulk_modulus" not in given and not laws.elastic.is_fluid:
        table = {n: p for n, p in natives.items() if n != "bulk_modulus"} | {"nu": ELASTIC_CONSTANTS["nu"]}
    for name in given:
        if name not in table:
            raise InputError(f"{owner}: no parameter '{name}'.{nearest(name, table)}")
    missing = [f"{n} [{p.unit}]" for n, p in table.items() if n not in given and p.default is None]
    if missing:
        raise InputError(f"{owner}: missing {', '.join(missing)}.")
    return table


def native_values(laws: Composition, values: dict[str, Tensor]) -> list[Tensor]:
    """The native columns, converted from the user's elastic constants where needed."""
    native = dict(values)
    pair = {n: v for n, v in values.items() if n in ELASTIC_CONSTANTS}
    if len(pair) == 2 and is_pair(pair):
        shear, bulk = shear_and_bulk(pair)
        native |= {"mu": shear, "bulk_modulus": bulk, "lam": bulk - 2.0 / 3.0 * shear} | pair
    elif "nu" in values and "bulk_modulus" in laws.names:
        names = [p.name for p in laws.elastic.params]
        zero = torch.zeros((), dtype=torch.float64)
        columns = torch.broadcast_tensors(*(values.get(n, zero) for n in names))
        shear, _bulk = laws.elastic.moduli(torch.stack(columns, dim=-1))
        nu = values["nu"]
        native["bulk_modulus"] = 2.0 * shear * (1.0 + nu) / (3.0 * (1.0 - 2.0 * nu))
    return [native[n] for n in laws.names]


def theta_columns(laws: Composition, values: dict[str, Tensor], networks: Sequence[Any]) -> Tensor:
    """Columns of theta (n, k) from user-facing values [SI]: those of a network follow its law's named ones.

    Args:
        laws: whose columns they are.
        values: by user-facing name.
        networks: weights of the elastic, viscous and inelastic law, None for a closed form.
    """
    native = native_values(laws, values)
    named = torch.broadcast_tensors(*native) if native else [torch.zeros((), dtype=torch.float64)]
    theta = torch.stack([c.reshape(-1) for c in named], dim=1)
    parts, at = [], 0
    for law, network in zip((laws.elastic, laws.viscous, laws.inelastic), networks, strict=True):
        own = theta[:, at : at + len(law.params)] if law else theta[:, :0]
        parts += [own] if network is None else [own, network.columns(own)]
        at += own.shape[1]
    rows = max(p.shape[0] for p in parts)
    return torch.cat([p.expand(rows, -1) for p in parts], dim=1) if at else theta
