"""Weights of neural energies as a module, and the way from them to columns of theta that keep the physics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from physim.errors import InputError
from physim.laws.neural.encoders import Encoder, get_encoder

# Columns of theta before those of the units: the coefficient of z[1] and that of the volume's own energy [Pa].
HEAD = 2
# An optimiser's step of 1e-2 in a raw inner weight should bend the energy within strains of a few tens of percent.
INNER = 4.0
OUTER = 0.02
# Beyond this a unit is straight for any strain, and exp(bias) leaves what single precision holds.
LARGEST_BIAS = 15.0
# Of the shear modulus: the least scale of the units that `UnitWeights.take` leaves.
SMALLEST_SCALE = 1e-3
# |det X| <= |X|^3/(3 sqrt 6) for a traceless symmetric X, so that |z[1]| of the hencky encoder is at most this z[0].
_ODD_SHARE = 1.0 / (6.0 * 6.0**0.5)


@dataclass(frozen=True)
class UnitPlan:
    """Size and kind of a layer of units: what a file must repeat for its weights to fit.

    Attributes:
        encoder: name of the encoder.
        hidden: number of units.
        convex: whether outer weights, and inner ones of z[0] and z[1], are kept from being negative.
    """

    encoder: str = "invariants"
    hidden: int = 16
    convex: bool = False
    family = "neural_energy"

    def __post_init__(self) -> None:
        get_encoder(self.encoder, self.convex)
        if not (isinstance(self.hidden, int) and 1 <= self.hidden <= 256):
            raise InputError(f"hidden: {self.hidden!r} is not a number of units; give 1 to 256.")

    @property
    def size(self) -> int:
        """Number of columns of theta."""
        return HEAD + 5 * self.hidden

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the raw weights by name."""
        encoder = get_encoder(self.encoder)
        shapes = {"outer": (self.hidden,), "inner": (self.hidden, len(encoder.used)), "bias": (self.hidden,)}
        return shapes | ({"second": ()} if encoder.second in ("even", "odd") else {})

    def make(self, seed: int) -> UnitWeights:
        """Weights drawn at random, near the energy without units."""
        return UnitWeights(self, seed)

    def options(self) -> dict[str, Any]:
        """What `neural_energy` was asked for."""
        return {"encoder": self.encoder, "hidden": self.hidden, "convex": self.convex}


class UnitWeights(nn.Module):
    """Raw weights of a layer of units; frozen until `Material.free("network")`.

    `outer`, `inner`, `bias` and `second` may have a leading axis, one set of weights for each row of theta (worlds).

    Attributes:
        plan: sizes.
    """

    outer: nn.Parameter
    inner: nn.Parameter
    bias: nn.Parameter
    second: nn.Parameter

    def __init__(self, plan: UnitPlan, seed: int) -> None:
        super().__init__()
        self.plan = plan
        g = torch.Generator().manual_seed(seed)
        centre = {"outer": -4.0 if plan.convex else 0.0, "second": -4.0 if self.encoder.second == "even" else 0.0}
        spread = {"outer": 0.5 if plan.convex else OUTER, "bias": 1.5, "second": 0.0}
        for name, shape in plan.shapes().items():
            drawn = torch.randn(shape, dtype=torch.float64, generator=g)
            raw = centre.get(name, 0.0) + spread.get(name, 1.0) * drawn
            self.register_parameter(name, nn.Parameter(raw, requires_grad=False))

    @property
    def encoder(self) -> Encoder:
        """What the units read."""
        return get_encoder(self.plan.encoder, self.plan.convex)

    def units(self) -> tuple[Tensor, Tensor, Tensor]:
        """Relative outer weights (r, hidden), biases (r, hidden) and inner weights (r, 3, hidden)."""
        plan, used = self.plan, self.encoder.used
        outer, bias = (t.reshape(-1, plan.hidden) for t in (self.outer, self.bias))
        inner = INNER * self.inner.reshape(-1, plan.hidden, len(used)).mT
        if plan.convex:
            outer = softplus(outer)
            inner = torch.cat([softplus(inner[:, :-1]), inner[:, -1:]], dim=1)
        rows = [inner[:, used.index(i)] if i in used else torch.zeros_like(inner[:, 0]) for i in range(3)]
        return outer, LARGEST_BIAS * torch.tanh(bias / LARGEST_BIAS), torch.stack(rows, dim=1)

    def columns(self, named: Tensor) -> Tensor:
        """Columns of theta after the named ones, (n, size), differentiable.

        The units' scale m [Pa] is chosen so that both moduli at rest are the named ones, the coefficient of the
        volume's own energy is positive, and no unit can turn the slope in z[0] or z[1] negative.

        Args:
            named: the law's named columns, (n, k).
        """
        outer, bias, inner = self.units()
        shear, bulk = (m[:, None] for m in self.encoder.moduli(named))
        fall, free = self._falls(outer, bias, inner)
        low = torch.sigmoid(bias)
        curve = (outer * low * (1.0 - low))[:, None] * inner.square()
        stiffening = curve[:, 2].sum(dim=1, keepdim=True)
        scale = shear if self.encoder.second != "none" else bulk
        held = stiffening.clamp(min=0.0) * scale / bulk
        if self.encoder.second == "fibre":
            # Units that soften a fibre must leave every modulus at rest positive: (x + y)^2 <= 2 x^2 + 2 y^2.
            soft = (-curve).clamp(min=0.0).sum(dim=2)
            held = curve[:, 2].abs().sum(dim=1, keepdim=True) * scale / bulk + 8.0 / 3.0 * soft[:, 1:2]
        if self.encoder.second == "even":
            scale = scale / (1.0 + 2.0 * (fall.sum(dim=1, keepdim=True) + free) + held)
            second = scale * (fall[:, 1:] + free)
        elif self.encoder.second == "fibre":
            scale = scale / (1.0 + 2.0 * fall.sum(dim=1, keepdim=True) + held)
            second = 0.0 * scale
        else:
            odd = _ODD_SHARE * (fall[:, 1:] + free.abs())
            scale = scale / (1.0 + 2.0 * (fall[:, :1] + odd) + held)
            second = scale * free
        head = [second, bulk - scale * stiffening]
        rows = max(t.shape[0] for t in (*head, inner))
        parts = [*head, scale * outer, torch.exp(bias), *inner.unbind(dim=1)]
        return torch.cat([t.expand(rows, -1) for t in parts], dim=1)

    def _falls(self, outer: Tensor, bias: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
        """How far units can pull down the slopes in z[0] and z[1], (r, 2), and the free part of the second, (r, 1)."""
        low = torch.sigmoid(bias)[:, None]
        pull = outer[:, None] * inner[:, :2]
        fall = (pull.clamp(min=0.0) * low + (-pull).clamp(min=0.0) * (1.0 - low)).sum(dim=2)
        if self.encoder.second == "fibre":
            return fall, fall[:, :1]
        if self.encoder.second == "none":
            return torch.zeros_like(fall), fall[:, :1]
        free = self.second.reshape(-1, 1)
        if self.encoder.second == "even":
            return fall, softplus(free)
        either = (pull.abs() * torch.maximum(low, 1.0 - low)).sum(dim=2)
        return torch.cat([fall[:, :1], either[:, 1:]], dim=1), free

    def take(self, first: float, second: float, volume: float, outer: Tensor) -> tuple[float, float, float]:
        """Set outer weights from a fit that is linear in them, the inner weights and biases as they are.

        psi = first z[0] + second z[1] + volume U(z[2]) + sum_i outer_i g_i(w_i . z): see `unit_energy`. Where the units
        would turn a slope negative or soften what must stay stiff, all of them are made smaller by one share; the
        moduli at rest remain those of the fit.

        Args:
            first, second, volume: coefficients [Pa] of the head.
            outer: coefficients [Pa] of the units, (hidden,).

        Returns:
            Shear and bulk modulus [Pa] of the fit, to be given to the material, and the share of the units that is
            left.

        Raises:
            InputError: a modulus that is not positive, a negative unit of a convex energy, or an energy with a fibre.
        """
        if self.encoder.second == "fibre":
            raise InputError("linear fits become weights for energies without a fibre only.")
        _, bias, inner = self.units()
        outer = outer.detach().double().reshape(1, -1)
        if self.plan.convex and bool((outer < 0).any()):
            raise InputError(
                f"outer: {float(outer.min()):g} Pa is negative, and this energy is convex; fit it with bounds."
            )
        fall, _ = self._falls(outer, bias, inner)
        low = torch.sigmoid(bias)
        stiffening = float((outer * inner[:, 2] ** 2 * low * (1.0 - low)).sum())
        kind = self.encoder.second
        bulk = volume + stiffening
        shear = {"even": 2.0 * (first + second), "odd": 2.0 * first, "none": bulk}[kind]
        if not (shear > 0.0 and bulk > 0.0):
            raise InputError(f"the fit has a shear modulus of {shear:g} Pa and a bulk modulus of {bulk:g} Pa at rest.")
        pull, other = float(fall[0, 0]), float(fall[0, 1])
        need = max(stiffening, 0.0) * shear / bulk + 2.0 * pull
        least = SMALLEST_SCALE * shear
        if kind == "even":
            second = min(max(second, 0.0), 0.5 * shear - least)
            room = shear - 2.0 * second - least
            share = min(1.0, room / need if need > 0 else 1.0, second / other if other > second else 1.0)
            scale = shear - 2.0 * second - share * need
            free = _softplus_raw(torch.tensor((second - share * other) / scale, dtype=torch.float64))
        else:
            need += 2.0 * _ODD_SHARE * other
            room = shear - least - 2.0 * _ODD_SHARE * abs(second)
            share = min(1.0, max(room, 0.0) / need if need > 0 else 1.0)
            scale = max(shear - 2.0 * _ODD_SHARE * abs(second) - share * need, least)
            free = torch.tensor(second / scale, dtype=torch.float64)
        relative = share * outer[0] / scale
        with torch.no_grad():
            self.outer.copy_(_softplus_raw(relative) if self.plan.convex else relative)
            if "second" in self.plan.shapes():
                self.second.copy_(free)
        return (0.0 if kind == "none" else shear), bulk, share


def _softplus_raw(value: Tensor) -> Tensor:
    """What softplus makes `value` of; of nothing, what it makes next to nothing of."""
    return torch.log(torch.expm1(value.clamp(min=1e-12)))
