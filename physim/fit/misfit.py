"""How residuals of one record depend on each other: in time, and between the values of one time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.observe.record import Comparison

LARGEST_ORDER = 8
"""Largest order of the autoregression; two suffice for a damped oscillation."""


@dataclass(frozen=True)
class Misfit:
    """Second moments of the residuals of one observation.

    Attributes:
        rows: residuals [noise units], zero where not fitted, (m, k).
        used: which values are fitted, (m, k).
        scale: mean squared residual [-].
        correlation: correlation at lag 0, 1, ..., m - 1 rows, (m,).
        channels: correlation between the values of one row, (k, k).
    """

    rows: Tensor
    used: Tensor
    scale: float
    correlation: Tensor
    channels: Tensor

    @property
    def count(self) -> int:
        """Fitted values."""
        return int(self.used.sum())

    @property
    def effective(self) -> float:
        """How many independent values fix the noise level as well: count over the sum of squared correlations."""
        m, k = self.rows.shape
        fading = 1.0 - torch.arange(1, m, dtype=torch.float64) / m
        times = 1.0 + 2.0 * float((fading * self.correlation[1:] ** 2).sum())
        between = float((self.channels**2).sum() / k)
        return self.count / (times * between)


def misfit(comparison: Comparison) -> Misfit:
    """Moments of the residuals at the fitted values.

    Residuals of a wrong model are correlated in time; treating them as independent would make intervals too
    narrow. Their correlation is that of the autoregression, of the order with the smallest Bayesian information
    criterion, that has the measured correlations at its first lags (Yule-Walker). The mean is not subtracted: a
    constant offset is a misfit, too.
    """
    used = comparison.fitted & comparison.valid
    rows = torch.where(used, comparison.residuals().detach(), 0.0)
    keep = used.any(1)
    rows, used = rows[keep], used[keep]
    m, k = rows.shape
    scale = float((rows**2).sum()) / max(int(used.sum()), 1)
    white = torch.zeros(m, dtype=torch.float64)
    white[0] = 1.0
    if scale == 0.0:
        return Misfit(rows, used, scale, white, torch.eye(k, dtype=torch.float64))
    moments = rows.T @ rows
    sizes = moments.diagonal().clamp_min(1e-300).sqrt()
    channels = moments / sizes[:, None] / sizes[None, :]
    channels.fill_diagonal_(1.0)
    return Misfit(rows, used, scale, autoregressive(rows, k / float(channels.square().sum() / k)), channels)


def autoregressive(rows: Tensor, series: float = 1.0) -> Tensor:
    """Correlation by lag, (m,), of the autoregression fitted to series in the columns of `rows`, (m, k).

    Args:
        rows: series that share one correlation.
        series: how many independent ones they are worth.
    """
    m = rows.shape[0]
    squares = (rows**2).sum()
    model, error = [1.0], 1.0
    chosen = coefficients = rows.new_zeros(0)
    best = 0.0
    # Levinson-Durbin: the next order from the last; reflections below one keep the correlation decaying.
    for order in range(1, min(LARGEST_ORDER, m // 6) + 1):
        measured = float((rows[order:] * rows[: m - order]).sum() / squares)
        before = sum(float(c) * model[order - 1 - i] for i, c in enumerate(coefficients))
        reflection = _unbiased((measured - before) / error, m)
        model.append(before + reflection * error)
        coefficients = torch.cat([coefficients - reflection * coefficients.flip(0), rows.new_tensor([reflection])])
        error *= 1.0 - reflection**2
        criterion = m * series * math.log(error) + order * math.log(m * series)
        if criterion < best:
            best, chosen = criterion, coefficients
    order = len(chosen)
    correlation = rows.new_zeros(m)
    correlation[: order + 1] = rows.new_tensor(model[: order + 1])
    for lag in range(order + 1, m if order else 0):
        correlation[lag] = chosen @ correlation[lag - order : lag].flip(0)
    return correlation


def _unbiased(reflection: float, m: int) -> float:
    """A reflection coefficient corrected for the correlation that a fit takes out of its residuals.

    Kendall's bias of a first correlation about a fitted mean, (1 + 3 rho) / m, where it stands out of the noise.
    """
    size = abs(reflection)
    if size > 2.0 / math.sqrt(m):
        size += (1.0 + 3.0 * size) / m
    return math.copysign(min(size, 0.999), reflection)


def score_covariance(found: Misfit, jacobian: Tensor) -> Tensor:
    """Covariance of J^T r under the found correlations, per unit of `scale`, (p, p).

    Args:
        found: of one observation.
        jacobian: d(residuals)/d(raw) of the same rows, zero where not fitted, (m, k, p).

    Returns:
        sum over rows t, s of correlation(|t - s|) J_t^T channels J_s.
    """
    m, k, p = jacobian.shape
    mixed = torch.einsum("tkp,kl->tlp", jacobian, found.channels)
    both_ways = torch.cat([found.correlation, found.correlation.new_zeros(1), found.correlation[1:].flip(0)])
    spectrum = torch.fft.rfft(both_ways)[:, None] * torch.fft.rfft(mixed.reshape(m, k * p), n=2 * m, dim=0)
    spread = torch.fft.irfft(spectrum, n=2 * m, dim=0)[:m].reshape(m, k, p)
    return torch.einsum("tlp,tlq->pq", spread, jacobian)
