"""Measured pictures to the few columns that gauges of pictures have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from physim.errors import InputError

Size = tuple[int, int]


def reduce_mask(mask: Any, size: Size, blur: float = 0.0) -> Tensor:
    """Masks as the columns of a `Silhouette` of that size and blur.

    Args:
        mask: coverage of each pixel, (..., h, w), torch or numpy: bool, uint8 from 0 to 255, or floats from 0 to 1.
        size: width and height of the reduced picture [px].
        blur: standard deviation of a Gaussian blur [px of the reduced picture].

    Returns:
        float64, (..., height * width).
    """
    return _Reduction(size, blur).of(fractions("mask", mask)).flatten(-2)


def reduce_depth(
    depth: Any, size: Size, *, mask: Any = None, background: float | None = None, least: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Depth images as the columns of a `Depth` gauge of that size, and where they are valid.

    Args:
        depth: along the optical axis [m], (..., h, w); NaN, infinite or zero where nothing was measured.
        size: width and height of the reduced picture [px].
        mask: coverage by the body, (..., h, w) as in `reduce_mask`; what is not the body then counts as `background`,
            as it does in the gauge. Without it the image is taken as it is.
        background: depth of what is not the body [m]; needed with a mask.
        least: share of a reduced pixel [-] that must have been measured.

    Returns:
        depth [m], float64, zero where invalid, and validity, bool, (..., height * width).
    """
    values = torch.as_tensor(np.asarray(depth) if not isinstance(depth, Tensor) else depth).to(torch.float64)
    measured = torch.isfinite(values) & (values != 0)
    values = torch.where(measured, values, 0.0)
    if mask is not None:
        if background is None:
            raise InputError("depth images with a mask need the depth of the background [m].")
        body = fractions("mask", mask)
        values = torch.where(measured, body * values + (1.0 - body) * background, 0.0)
        # Where the body is not, nothing need be measured.
        values, measured = torch.where(body > 0, values, background), measured | (body == 0)
    shrink = _Reduction(size, 0.0)
    weight = shrink.of(measured.to(torch.float64)).flatten(-2)
    valid = weight >= least
    total = shrink.of(values * measured).flatten(-2)
    return torch.where(valid, total / torch.where(valid, weight, 1.0), 0.0), valid


def jumps(depth: Tensor, valid: Tensor, size: Size) -> Tensor:
    """Largest difference of depths among each pixel and its neighbours [m], (frames, height * width).

    At an outline depth jumps to the background: what a mask leaves undecided of such a pixel is that share of the jump.

    Args:
        depth: [m], (frames, height * width).
        valid: which of them were measured; others are no neighbours.
        size: width and height [px].
    """
    width, height = size
    ends = []
    for sign in (1.0, -1.0):
        pages = torch.where(valid, sign * depth, -math.inf).reshape(-1, 1, height, width)
        ends.append(functional.max_pool2d(pages, 3, stride=1, padding=1))
    found = (ends[0] + ends[1]).reshape(depth.shape)
    return torch.where(torch.isfinite(found), found, 0.0)


def reduce_colour(picture: Any, size: Size, blur: float = 0.0) -> Tensor:
    """Colour pictures as the columns of a `Colour` gauge of that size and blur.

    Args:
        picture: (..., h, w, channels), torch or numpy: uint8 from 0 to 255, or floats from 0 to 1.
        size: width and height of the reduced picture [px].
        blur: standard deviation of a Gaussian blur [px of the reduced picture].

    Returns:
        float64, (..., height * width * channels).
    """
    channels_first = fractions("picture", picture).movedim(-1, -3)
    return _Reduction(size, blur).of(channels_first).movedim(-3, -1).flatten(-3)


def fractions(name: str, values: Any) -> Tensor:
    """Values from 0 to 1 in float64.

    Raises:
        InputError: neither bool, nor uint8, nor floats from 0 to 1.
    """
    found = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if found.dtype == torch.bool:
        return found.to(torch.float64)
    if found.dtype == torch.uint8:
        return found.to(torch.float64) / 255.0
    low, high = (float(found.min()), float(found.max())) if found.numel() else (0.0, 0.0)
    if not found.is_floating_point() or not (low >= 0.0 and high <= 1.0):
        raise InputError(
            f"{name}: give bool, uint8 from 0 to 255, or floats from 0 to 1; got {found.dtype}, {low:g} to {high:g}."
        )
    return found.to(torch.float64)


def blur_matrix(count: int, sigma: float) -> Tensor:
    """Gaussian weights of `count` pixels in a row, (count, count); rows sum to one, so that no edge darkens."""
    if not sigma >= 0.0:
        raise InputError(f"blur must not be below 0 px, got {sigma}.")
    if sigma == 0.0:
        return torch.eye(count, dtype=torch.float64)
    at = torch.arange(count, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _shares(before: int, after: int) -> Tensor:
    """How much of each of `before` pixels lies in each of `after`, in shares of the latter, (after, before)."""
    low = torch.arange(after, dtype=torch.float64)[:, None] * (before / after)
    at = torch.arange(before, dtype=torch.float64)
    overlap = (torch.minimum(low + before / after, at + 1.0) - torch.maximum(low, at)).clamp_min(0.0)
    return overlap / overlap.sum(1, keepdim=True)


class _Reduction:
    def __init__(self, size: Size, blur: float) -> None:
        if min(size) < 1:
            raise InputError(f"a reduced picture needs a width and a height of at least 1 px, got {size}.")
        self._size, self._blur = size, blur

    def of(self, pictures: Tensor) -> Tensor:
        """(..., h, w) to (..., height, width)."""
        if pictures.ndim < 2 or math.prod(pictures.shape[-2:]) == 0:
            raise InputError(f"pictures: expected shape (..., h, w), got {tuple(pictures.shape)}.")
        width, height = self._size
        rows = blur_matrix(height, self._blur) @ _shares(pictures.shape[-2], height)
        columns = blur_matrix(width, self._blur) @ _shares(pictures.shape[-1], width)
        return rows @ pictures @ columns.T
