"""The splatter's sums in plain torch: windows of all particles at once, added by `index_add_`, gradients by hand."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from physim.observe.splat_kernels import LANES
from physim.observe.splat_maps import Sheet

PIXELS = 4_000_000
"""Most pixels of windows at once, which bounds memory."""


class PlainBells:
    """Takes the place of `physim.observe.splat_maps.Bells`."""

    def __init__(self, channels: int) -> None:
        self._channels = channels

    def scatter(self, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet) -> None:
        """Add bells times amplitudes, (m, channels), to pages."""
        for part, at, h, _, _ in self._windows(u, reach, sheet):
            w = h * h * h
            for c in range(amplitude.shape[1]):
                added = w * amplitude[part, c, None, None]
                pages.view(-1).index_add_(0, (at + c * self._plane(sheet)).view(-1), added.view(-1))

    def gather(self, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet) -> Tensor:
        """Sums of bells times pages, (m, channels)."""
        found = torch.empty_like(amplitude)
        for part, at, h, _, _ in self._windows(u, reach, sheet):
            w = h * h * h
            for c in range(amplitude.shape[1]):
                found[part, c] = (w * self._taken(pages, at, c, sheet)).sum((1, 2))
        return found

    def pull(
        self, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `gather`, and the gradient of the sums weighted by amplitudes, by u, (m, 2), and by reach, (m,)."""
        found, by_u, by_reach = torch.empty_like(amplitude), torch.empty_like(u), torch.empty_like(reach)
        for part, at, h, dx, dy in self._windows(u, reach, sheet):
            h2 = h * h
            mixed = torch.zeros_like(h)
            for c in range(amplitude.shape[1]):
                v = h2 * self._taken(pages, at, c, sheet)
                found[part, c] = (h * v).sum((1, 2))
                mixed += v * amplitude[part, c, None, None]
            across, down = mixed.sum(1), mixed.sum(2)
            per = 6.0 / reach[part].square()
            by_u[part, 0] = per * (across * dx).sum(1)
            by_u[part, 1] = per * (down * dy).sum(1)
            by_reach[part] = per / reach[part] * ((across * dx**2).sum(1) + (down * dy**2).sum(1))
        return found, by_u, by_reach

    def _windows(
        self, u: Tensor, reach: Tensor, sheet: Sheet
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
        """Of some particles at a time: which, the places of their pixels, the bell's base, and distances."""
        m = len(u)
        wide = 2 * int(torch.ceil(reach.max())) + 1
        offsets = torch.arange(wide)
        each, stride = m // sheet.count, sheet.width + LANES
        for start in range(0, m, max(1, PIXELS // wide**2)):
            part = slice(start, min(m, start + max(1, PIXELS // wide**2)))
            low = torch.ceil(u[part] - reach[part, None])
            x, y = (low[:, axis, None] + offsets for axis in (0, 1))
            dx, dy = x - u[part, 0, None], y - u[part, 1, None]
            per = reach[part].square().reciprocal()[:, None]
            # What is outside of the picture is added to its border, times zero.
            far = torch.finfo(u.dtype).max
            ex = torch.where((x >= 0) & (x <= sheet.width - 1), dx * dx * per, far)
            ey = torch.where((y >= 0) & (y <= sheet.height - 1), dy * dy * per, far)
            h = (1.0 - ex[:, None, :] - ey[:, :, None]).clamp_min_(0.0)
            page = torch.arange(part.start, part.stop) // each * (self._plane(sheet) * self._channels)
            row = y.clamp(0, sheet.height - 1).long() * stride + page[:, None]
            at = row[:, :, None] + x.clamp(0, sheet.width - 1).long()[:, None, :]
            yield part, at, h, dx, dy

    def _plane(self, sheet: Sheet) -> int:
        return sheet.height * (sheet.width + LANES)

    def _taken(self, pages: Tensor, at: Tensor, c: int, sheet: Sheet) -> Tensor:
        return pages.view(-1)[(at + c * self._plane(sheet)).view(-1)].view(at.shape)


def plain_bells(amplitude: Tensor) -> PlainBells:
    """Takes the place of `physim.observe.splat_maps.bells`."""
    return PlainBells(amplitude.shape[1])
