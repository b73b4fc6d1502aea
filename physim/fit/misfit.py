"""How residuals of one record depend on each other: in time, and between the values of one time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.observe.record import Comparison


@dataclass(frozen=True)
class Misfit:
    """Second moments of the residuals of one observation.

    Attributes:
        rows: residuals [noise units], zero where not fitted, (m, k).
        used: which values are fitted, (m, k).
        scale: mean squared residual [-].
        correlation: correlation at lag 0, 1, ... rows, significant lags only, others zero, (lags,).
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
        """Independent values with the same information about a mean: count over the sum of correlations."""
        times = 1.0 + 2.0 * float(self.correlation[1:].abs().sum())
        k = self.channels.shape[0]
        between = float((self.channels.sum() / k).clamp(1.0, k))
        return self.count / (times * between)


def misfit(comparison: Comparison) -> Misfit:
    """Moments of the residuals at the fitted values.

    Residuals of a wrong model are correlated in time; treating them as independent would make intervals too
    narrow. The correlation of lag l is the mean product of residuals l rows apart over the mean square, tapered
    with Bartlett's window over half the record, and dropped where it is below sqrt(2 ln m / m), which white noise
    rarely exceeds. The mean is not subtracted: a constant offset is a misfit, too.
    """
    used = comparison.fitted & comparison.valid
    rows = torch.where(used, comparison.residuals().detach(), 0.0)
    keep = used.any(1)
    rows, used = rows[keep], used[keep]
    m, k = rows.shape
    count = int(used.sum())
    scale = float((rows**2).sum()) / max(count, 1)
    lags = max(1, m // 2)
    correlation = torch.zeros(lags, dtype=torch.float64)
    correlation[0] = 1.0
    if scale > 0.0:
        threshold = math.sqrt(2.0 * math.log(max(m, 2)) / max(m, 1))
        for lag in range(1, lags):
            pairs = used[lag:] & used[:-lag]
            product = float((rows[lag:] * rows[:-lag]).sum()) / max(int(pairs.sum()), 1) / scale
            if abs(product) > threshold:
                correlation[lag] = product * (1.0 - lag / lags)
        moments = rows.T @ rows
        sizes = moments.diagonal().clamp_min(1e-300).sqrt()
        channels = moments / sizes[:, None] / sizes[None, :]
    else:
        channels = torch.eye(k, dtype=torch.float64)
    return Misfit(rows, used, scale, correlation, channels)


def score_covariance(found: Misfit, jacobian: Tensor) -> Tensor:
    """Covariance of J^T r under the found correlations, per unit of `scale`, (p, p).

    Args:
        found: of one observation.
        jacobian: d(residuals)/d(raw) of the same rows, zero where not fitted, (m, k, p).

    Returns:
        sum over rows t, s of correlation(|t - s|) J_t^T channels J_s.
    """
    mixed = torch.einsum("tkp,kl->tlp", jacobian, found.channels)
    total = torch.einsum("tlp,tlq->pq", mixed, jacobian)
    for lag in torch.nonzero(found.correlation[1:]).flatten().tolist():
        shift = lag + 1
        cross = torch.einsum("tlp,tlq->pq", mixed[:-shift], jacobian[shift:])
        total = total + float(found.correlation[shift]) * (cross + cross.T)
    return total
