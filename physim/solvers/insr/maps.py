"""How weights enter a field: affine maps of features; and what each weight does at each point, read off them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physim.solvers.insr.jets import Jet


@dataclass
class Weights:
    """A flat vector of weights, given out piece by piece in the order in which a field asks.

    Attributes:
        flat: all of them, (size,).
        along: a change of them, (size,), which series then follow; or None.
        maps: what was asked for, where `recording`.
        recording: keep what `rows` needs.
    """

    flat: Tensor
    along: Tensor | None = None
    recording: bool = False
    maps: list[_Map] = field(default_factory=list)
    _taken: int = 0

    def take(self, *shape: int) -> tuple[Tensor, Tensor | None]:
        """The next weights, in a shape, and their change."""
        piece = slice(self._taken, self._taken + math.prod(shape))
        self._taken = piece.stop
        return self.flat[piece].reshape(shape), None if self.along is None else self.along[piece].reshape(shape)

    def affine(self, h: Jet, width: int) -> Jet:
        """W h + b, with W (width, features) and b (width,) weights."""
        begin = self._taken
        (matrix, turned), (shift, moved) = self.take(width, h.value.shape[1]), self.take(width)
        out = self._each(h, lambda a: a @ matrix.T, None if turned is None else lambda a: a @ turned.T, shift, moved)
        return self._noted(_Map(begin, h.parts, _dense, width * h.value.shape[1]), Jet(h.terms, tuple(out)))

    def scale(self, h: Jet) -> Jet:
        """Each feature times a weight, plus a weight."""
        begin, width = self._taken, h.value.shape[1]
        (factor, turned), (shift, moved) = self.take(width), self.take(width)
        out = self._each(h, lambda a: a * factor, None if turned is None else lambda a: a * turned, shift, moved)
        return self._noted(_Map(begin, h.parts, _each, width), Jet(h.terms, tuple(out)))

    def _each(
        self,
        h: Jet,
        linear: Callable[[Tensor], Tensor],
        changed: Callable[[Tensor], Tensor] | None,
        shift: Tensor,
        moved: Tensor | None,
    ) -> list[Tensor | None]:
        """A map of every term; with a change of the weights also what that does: (W + dW) h = W h + dW h."""
        live = [k for k, part in enumerate(h.parts) if part is not None]
        stacked = linear(torch.cat([part for part in h.parts if part is not None]))
        out: list[Tensor | None] = [None] * len(h.parts)
        for k, part in zip(live, stacked.chunk(len(live)), strict=True):
            out[k] = part + shift if k == 0 else part
        if changed is None or moved is None:
            return out
        for k in live:
            index, part = h.terms.indices[k], h.parts[k]
            if index[-1] == 0 and part is not None:
                place = h.terms.at((*index[:-1], 1))
                more, before = changed(part) + (moved if k == 0 else 0.0), out[place]
                out[place] = more if before is None else before + more
        return out

    def _noted(self, made: _Map, out: Jet) -> Jet:
        if self.recording:
            made.outputs = tuple(
                None if part is None else part if part.requires_grad else part.requires_grad_() for part in out.parts
            )
            out = Jet(out.terms, made.outputs)
            self.maps.append(made)
        return out


@dataclass
class _Map:
    """One map: where its weights begin, its input and output, and how slopes of the output become those of weights.

    `slopes` takes which of its weights are meant, counted from its first one; all of them without.
    """

    begin: int
    inputs: tuple[Tensor | None, ...]
    slopes: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    count: int
    outputs: tuple[Tensor | None, ...] = ()


def _dense(slope: Tensor, given: Tensor, only: Tensor | None) -> Tensor:
    if only is not None:
        return slope[:, only // given.shape[1]] * given[:, only % given.shape[1]]
    return (slope[:, :, None] * given[:, None, :]).reshape(slope.shape[0], -1)


def _each(slope: Tensor, given: Tensor, only: Tensor | None) -> Tensor:
    return slope * given if only is None else slope[:, only] * given[:, only]


def rows(weights: Tensor, function: Callable[[Weights], Tensor], only: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values at points and how each weight changes each: no approximation, and no loop over points or weights.

    What a point gives depends on weights through affine maps alone, so a weight's share is the slope of the map's
    output, which one backward pass finds for all points, times its input.

    Args:
        weights: flat, (p,).
        function: from weights to what is wanted at each point, (n, m); points must not depend on each other.
        only: which weights are meant, in order, (k,); all unless given.

    Returns:
        values (n, m), and their derivatives by weights, (m, n, p) or (m, n, k).
    """
    with torch.enable_grad():
        given = Weights(weights.detach(), recording=True)
        values = function(given)
        n, wanted = values.shape
        found = weights.new_zeros(wanted, n, weights.shape[0] if only is None else len(only))
        live = [(m, k, part) for m in given.maps for k, part in enumerate(m.outputs) if part is not None]
        for i in range(wanted):
            slopes = torch.autograd.grad(
                values[:, i].sum(), [part for _, _, part in live], retain_graph=i + 1 < wanted, allow_unused=True
            )
            for (m, k, _), slope in zip(live, slopes, strict=True):
                entry = m.inputs[k]
                if slope is None or entry is None:
                    continue
                middle, end = m.begin + m.count, m.begin + m.count + slope.shape[1]
                here, chosen = _among(only, m.begin, middle)
                found[i, :, here] += m.slopes(slope, entry.detach(), chosen)
                if k == 0:
                    here, chosen = _among(only, middle, end)
                    found[i, :, here] += slope if chosen is None else slope[:, chosen]
    return values.detach(), found


def _among(only: Tensor | None, begin: int, end: int) -> tuple[slice, Tensor | None]:
    """Columns for weights from `begin` to `end`, and which of these are meant, counted from the first."""
    if only is None:
        return slice(begin, end), None
    low, high = (int(k) for k in torch.searchsorted(only, torch.tensor([begin, end])))
    return slice(low, high), only[low:high] - begin
