"""Weights of neural energies as a module, and the way from them to columns of theta that keep the physics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from physim.errors import InputError
from physim.laws.neural.encoders import Encoder, get_encoder

# Columns of theta before those of the units [Pa]: the coefficients of z[1], of the volume's own energy, of z[2]^2/2, of
# z[0]^2/2, and of what is taken off in z[2].
HEAD = 5
# An optimiser's step of 1e-2 in a raw inner weight should bend the energy within strains of a few tens of percent.
INNER = 4.0
OUTER = 0.02
# Beyond this a unit is straight for any strain, and exp(bias) leaves what single precision holds.
LARGEST_BIAS = 15.0
# Of the modulus: the least scale of the units that `UnitWeights.take` leaves.
SMALLEST_SCALE = 1e-3
# Of the bulk modulus: the least part of the energy that is infinite at J = 0, and of the one that is not, after `take`.
LEAST_PART = 1e-6


@dataclass(frozen=True)
class Coefficient:
    """One number that the stress is linear in.

    Attributes:
        name: as reports tell it.
        held: whether a fit draws it towards zero; a modulus is not.
        bounded: whether it must not be negative.
    """

    name: str
    held: bool
    bounded: bool


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
        encoder = get_encoder(self.encoder, self.convex)
        shapes = {"outer": (self.hidden,), "inner": (self.hidden, len(encoder.used)), "bias": (self.hidden,)}
        if encoder.second in ("even", "odd"):
            shapes["second"] = ()
        if encoder.barrier:
            shapes["barrier"] = ()
        return shapes if encoder.second == "none" else shapes | {"square": ()}

    def make(self, seed: int) -> UnitWeights:
        """Weights drawn at random, near the energy without units."""
        return UnitWeights(self, seed)

    def options(self) -> dict[str, Any]:
        """What `neural_energy` was asked for."""
        return {"encoder": self.encoder, "hidden": self.hidden, "convex": self.convex}


class UnitWeights(nn.Module):
    """Raw weights of a layer of units; frozen until `Material.free("network")`.

    Each may have a leading axis, one set of weights for each row of theta (worlds).

    Attributes:
        plan: sizes.
    """

    outer: nn.Parameter
    inner: nn.Parameter
    bias: nn.Parameter
    second: nn.Parameter
    barrier: nn.Parameter
    square: nn.Parameter

    def __init__(self, plan: UnitPlan, seed: int) -> None:
        super().__init__()
        self.plan = plan
        g = torch.Generator().manual_seed(seed)
        centre = {"square": -4.0, "barrier": -2.0} | ({"outer": -4.0, "second": -4.0} if plan.convex else {})
        spread = {"outer": 0.5 if plan.convex else OUTER, "bias": 1.5, "second": 0.0, "square": 0.0, "barrier": 0.0}
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

        Args:
            named: the law's named columns, (n, k).
        """
        outer, bias, inner = self.units()
        shear, bulk = (m[:, None] for m in self.encoder.moduli(named))
        scale = bulk if self.encoder.second == "none" else shear
        shapes = self.plan.shapes()
        free = self.second.reshape(-1, 1) if "second" in shapes else torch.zeros_like(outer[:, :1])
        square = softplus(self.square.reshape(-1, 1)) if "square" in shapes else torch.zeros_like(free)
        square = scale * square
        if self.plan.convex:
            carried, curve = self._carried(outer, bias, inner)
            if self.encoder.second == "even":
                carried = torch.cat([carried[:, :1], carried[:, 1:] + softplus(free)], dim=1)
            # So small that what is left of both moduli for the head is positive.
            scale = scale / (1.0 + 2.0 * carried.sum(dim=1, keepdim=True) + curve * scale / bulk)
            free = carried[:, 1:] if self.encoder.second == "even" else torch.zeros_like(free)
            room = bulk - scale * curve
        else:
            room = self._rest(shear, bulk)
        share = torch.sigmoid(self.barrier.reshape(-1, 1)) if "barrier" in shapes else torch.ones_like(free)
        return self._joined(bulk - self.encoder.carried * shear, share * room, scale * free, square, scale * outer)

    def _rest(self, shear: Tensor, bulk: Tensor) -> Tensor:
        """What z[0] leaves of the bulk modulus for the volume's energy [Pa]."""
        rest = bulk - self.encoder.carried * shear
        if bool((rest <= 0.0).any()):
            raise InputError(
                f"a bulk modulus of {float(bulk.detach().min()):.4g} Pa leaves nothing to the volume: in the encoder "
                f"'{self.plan.encoder}' the first term has {self.encoder.carried:.3g} times the shear modulus of it. "
                "Give nu above 0, or another encoder."
            )
        return rest

    def _joined(self, bulk: Tensor, barrier: Tensor, second: Tensor, square: Tensor, outer: Tensor) -> Tensor:
        """Columns of theta, linear in all arguments [Pa], at the present inner weights and biases.

        `bulk` is that of the volume's energy and of `barrier`, its part that is infinite at J = 0.
        What the units add to the bulk modulus at rest is taken off again: of the coefficient of z[2]^2/2 where the law
        is convex, else by a term that grows more slowly than any other, so that outer weights may be anything.
        """
        _, bias, inner = self.units()
        _, curve = self._carried(outer, bias, inner)
        off = curve if not self.plan.convex else 0.0 * curve
        bowl = bulk - barrier - (curve - off)
        parts = [second, barrier, bowl, square, off, outer, torch.exp(bias), *inner.unbind(dim=1)]
        rows = max(t.shape[0] for t in (bulk, *parts))
        return torch.cat([t.expand(rows, -1) for t in parts], dim=1)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """What the stress is linear in, in the order of `assemble`: the shear modulus (fluids have none), the two parts
        of the bulk modulus, the coefficients of z[1] and z[0]^2/2, those of the units.
        """
        shapes, convex = self.plan.shapes(), self.plan.convex
        solid = [Coefficient("shear", False, convex)] if self.encoder.second != "none" else []
        heads = [Coefficient(n, True, convex or n != "second") for n in ("barrier", "second", "square") if n in shapes]
        units = [Coefficient(f"unit {i + 1}", True, convex) for i in range(self.plan.hidden)]
        return (*solid, Coefficient("volume", False, True), *heads, *units)

    def begin(self, shear: float, bulk: float) -> Tensor:
        """Coefficients [Pa] of the law without units."""
        start = {"shear": shear, "volume": bulk - self.encoder.carried * shear}
        return torch.tensor([start.get(c.name, 0.0) for c in self.coefficients], dtype=torch.float64)

    def assemble(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shear and bulk modulus at rest [Pa], (n, 1), and columns of theta, all linear in the coefficients.

        Args:
            q: `coefficients` [Pa], (n, m).
        """
        at = {c.name: q[:, i : i + 1] for i, c in enumerate(self.coefficients)}
        none = torch.zeros_like(at["volume"])
        shear, second, square = (at.get(n, none) for n in ("shear", "second", "square"))
        volume = at["volume"] + at.get("barrier", none)
        outer = q[:, -self.plan.hidden :]
        columns = self._joined(volume, at.get("barrier", volume), second, square, outer)
        return shear, volume + self.encoder.carried * shear, columns

    def _carried(self, outer: Tensor, bias: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
        """What units have at rest: slopes in z[0] and z[1], (r, 2), before the tangent is taken off, and the curvature
        in z[2], (r, 1).
        """
        low = torch.sigmoid(bias)
        slopes = (outer[:, None] * inner[:, :2] * low[:, None]).sum(dim=2)
        return slopes, (outer * inner[:, 2] ** 2 * low * (1.0 - low)).sum(dim=1, keepdim=True)

    def take(self, q: Tensor) -> tuple[float, float, float]:
        """Set weights from a fit that is linear in them.

        The moduli are to be given to the material. Weights of a convex energy must not be negative; where the units
        then carry more than the moduli, all of them are made smaller by one share.

        Args:
            q: `coefficients` [Pa], (m,).

        Returns:
            Shear and bulk modulus at rest [Pa], and that share, 1 where nothing had to give.

        Raises:
            InputError: a modulus that is not positive, or a negative unit of a convex energy.
        """
        at = {c.name: float(v) for c, v in zip(self.coefficients, q, strict=True)}
        shear, volume = at.get("shear", 0.0), at["volume"] + at.get("barrier", 0.0)
        bulk = volume + self.encoder.carried * shear
        barrier, second, square = at.get("barrier", volume), at.get("second", 0.0), at.get("square", 0.0)
        kind, shapes, outer = self.encoder.second, self.plan.shapes(), q[-self.plan.hidden :]
        scale = bulk if kind == "none" else shear
        if not (scale > 0.0 and volume > 0.0):
            raise InputError(f"the fit has a shear modulus of {shear:g} Pa and a bulk modulus of {bulk:g} Pa at rest.")
        outer, share, free, head = outer.detach().double().reshape(1, -1), 1.0, second / scale, volume
        square /= scale
        if self.plan.convex:
            if bool((outer < 0).any()):
                least = f"{float(outer.min()):g} Pa"
                raise InputError(f"outer: {least} is negative, and this energy is convex; fit it with bounds.")
            _, bias, inner = self.units()
            carried, curve = self._carried(outer, bias, inner)
            first, other = carried[0].tolist()
            need, room = 2.0 * first + float(curve) * scale / bulk, (1.0 - SMALLEST_SCALE) * scale
            if kind == "even":
                second = min(max(second, 0.0), 0.5 * room)
                room -= 2.0 * second
                share = min(1.0, second / other) if other > second else 1.0
            else:
                need += 2.0 * other
            share = min(share, room / need) if need > room else share
            scale = room + SMALLEST_SCALE * scale - share * need
            free = (second - share * other) / scale
            head -= share * float(curve)
        relative = share * outer[0] / scale
        with torch.no_grad():
            self.outer.copy_(_softplus_raw(relative) if self.plan.convex else relative)
            if "second" in shapes:
                value = torch.tensor(free, dtype=torch.float64)
                self.second.copy_(_softplus_raw(value) if self.plan.convex else value)
            if "barrier" in shapes:
                part = torch.tensor(barrier / head, dtype=torch.float64)
                self.barrier.copy_(torch.logit(part, eps=LEAST_PART))
            if "square" in shapes:
                self.square.copy_(_softplus_raw(torch.tensor(square, dtype=torch.float64)))
        return shear, bulk, share


def _softplus_raw(value: Tensor) -> Tensor:
    """What softplus makes `value` of; of nothing, what it makes next to nothing of."""
    return torch.log(torch.expm1(value.clamp(min=1e-12)))
