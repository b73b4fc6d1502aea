"""How far a prediction may be off because the fitted values are: the delta method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from scipy import stats
from torch import Tensor

from physim.fit.uncertainty import Uncertainty
from physim.observe.record import Comparison

OPEN = 1e-6
"""Share of a prediction's slope along directions that nothing determines, beyond which it has no band."""


def banded(
    comparisons: Sequence[Comparison], jacobians: Sequence[Tensor], uncertainty: Uncertainty, level: float
) -> list[Comparison]:
    """The comparisons with half widths of the predictions' intervals, J S J^T with the covariance S of the fit.

    They hold what the data leave open of the fitted values, and neither the noise of a single value nor what the law
    cannot describe. None where weights were taken as known.

    Args:
        comparisons: at the fitted point.
        jacobians: d(residuals)/d(raw) of each, (m, k, p).
        uncertainty: of the fit.
        level: probability of the intervals.
    """
    if uncertainty.left_out:
        return list(comparisons)
    quantile = float(stats.t.ppf(0.5 + level / 2.0, uncertainty.freedom))
    found = []
    for c, J in zip(comparisons, jacobians, strict=True):
        half = quantile * c.sigma * ((J @ uncertainty.covariance) * J).sum(-1).clamp_min(0.0).sqrt()
        loose = (J @ uncertainty.open_directions).norm(dim=-1) > OPEN * J.norm(dim=-1)
        found.append(replace(c, band=half.masked_fill(loose, math.inf)))
    return found
