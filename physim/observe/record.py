"""A measured record, and its comparison with a prediction in units of the measurement noise."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.observe.gauge import Gauge
from physim.observe.interpolate import interpolation_matrix
from physim.observe.robust import HUBER_DELTA, huber_residual

ORDERS = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Comparison:
    """Measured beside predicted, along one abscissa (time, or stretch).

    Attributes:
        name: name of the observation.
        columns: a name per value.
        unit: unit of the values.
        at: abscissa, (m,).
        measured: (m, k).
        predicted: (m, k).
        sigma: noise of one value, same unit, (m, k).
        fitted: which values are fitted; the others are held out, (m, k).
        valid: which values were measured at all, (m, k).
        huber: see `huber_residual`; None for squares.
        weight: multiplies the squared residuals.
        label: name and unit of the abscissa.
        band: half width of the prediction's interval, same unit, (m, k); None where it is not known.
        together: columns are parts of one picture or cloud, whose error is told together, not one by one.
    """

    name: str
    columns: tuple[str, ...]
    unit: str
    at: Tensor
    measured: Tensor
    predicted: Tensor
    sigma: Tensor
    fitted: Tensor
    valid: Tensor
    huber: float | None = HUBER_DELTA
    weight: float = 1.0
    label: str = "time [s]"
    band: Tensor | None = None
    together: bool = False

    def residuals(self) -> Tensor:
        """(predicted - measured) / sigma [noise units], (m, k); not robust, not weighted."""
        return (self.predicted - self.measured) / self.sigma

    def objective(self) -> Tensor:
        """Robust, weighted residuals of the fitted values, flat; half their sum of squares is the loss."""
        r = huber_residual(self.residuals(), self.huber) * self.weight**0.5
        return r[self.fitted & self.valid]

    @property
    def limit(self) -> float:
        """Entry of `objective` beyond which the loss grows linearly."""
        return math.inf if self.huber is None else self.huber * self.weight**0.5

    def within(self, begin: float | None, end: float | None) -> Comparison:
        """The same with the fitted values limited to begin <= abscissa <= end."""
        inside = torch.ones_like(self.at, dtype=torch.bool)
        if begin is not None:
            inside &= self.at >= begin - 1e-12
        if end is not None:
            inside &= self.at <= end + 1e-12
        return dataclasses.replace(self, fitted=self.fitted & inside[:, None])

    def named(self, name: str) -> Comparison:
        """The same under another name."""
        return dataclasses.replace(self, name=name)

    def held(self) -> Comparison:
        """The same with nothing fitted."""
        return dataclasses.replace(self, fitted=torch.zeros_like(self.fitted))


@dataclass(frozen=True)
class Observation:
    """A gauge and what it measured.

    Attributes:
        name: for messages and reports.
        gauge: what is read from the simulation.
        times: times of the record [s], increasing, (m,).
        values: measured values in the gauge's unit, (m, k).
        sigma: standard deviation of the noise of one value, broadcastable to (m, k).
        valid: False where a value is missing, (m, k); all True unless given.
        held_out: time windows [s] that are scored but never fitted; one of (-inf, inf) holds out everything.
        huber: residual [noise units] beyond which the loss is linear; None for plain squares.
        order: interpolation between frames: 1 linear, 3 cubic.
        delay: what is added to the record's times to get the simulation's [s].
        weight: multiplies the squared residuals.
        together: see `Comparison`.
    """

    name: str
    gauge: Gauge
    times: Tensor
    values: Tensor
    sigma: Tensor
    valid: Tensor | None = None
    held_out: tuple[tuple[float, float], ...] = ()
    huber: float | None = HUBER_DELTA
    order: int = 3
    delay: float = 0.0
    weight: float = 1.0
    together: bool = False

    def __post_init__(self) -> None:
        k = len(self.gauge.columns)
        if len(self.times) == 0:
            raise InputError(f"observation '{self.name}' is empty: it has no times.")
        check_shape(f"observation '{self.name}' times", self.times, (None,))
        check_shape(f"observation '{self.name}' values", self.values, (len(self.times), k))
        check_finite(f"observation '{self.name}' times", self.times)
        check_finite(f"observation '{self.name}' values", self.values)
        if bool((self.times[1:] <= self.times[:-1]).any()):
            raise InputError(f"observation '{self.name}': times must increase.")
        if not bool((self.sigma > 0).all()) or not bool(torch.isfinite(self.sigma).all()):
            raise InputError(f"observation '{self.name}': the noise must be positive, got {self.sigma.min().item()}.")

    def fitted(self) -> Tensor:
        """Which rows are fitted, (m,)."""
        keep = torch.ones(len(self.times), dtype=torch.bool)
        for begin, end in self.held_out:
            keep &= ~((self.times >= begin) & (self.times <= end))
        return keep

    def compare(self, frames: Tensor, series: Tensor, *, delay: Tensor | float | None = None) -> Comparison:
        """Put the record beside a simulated series.

        Args:
            frames: times of the series [s], (F,).
            series: what the gauge read at those times, (F, k).
            delay: replaces `self.delay` [s]; may require gradients.

        Raises:
            InputError: the record reaches beyond the simulation at its end. Times before the first frame hold
                the first value: the body is taken to be at rest until the simulation starts.
        """
        shift = self.delay if delay is None else delay
        begin = float(frames[0])
        times = torch.clamp(self.times + shift, min=begin)
        predicted = interpolation_matrix(frames, times, order=self.order) @ series.to(torch.float64)
        shape = self.values.shape
        valid = torch.ones(shape, dtype=torch.bool) if self.valid is None else self.valid
        return Comparison(
            name=self.name,
            columns=self.gauge.columns,
            unit=self.gauge.unit,
            at=self.times,
            measured=self.values,
            predicted=predicted,
            sigma=self.sigma.expand(shape),
            fitted=self.fitted()[:, None].expand(shape),
            valid=valid,
            huber=self.huber,
            weight=self.weight,
            together=self.together,
        )

    def shortened(self, end: float) -> Observation | None:
        """The record up to `end` [s], or None if nothing is left."""
        keep = self.times <= end + 1e-12
        if not bool(keep.any()):
            return None
        cut = {f: getattr(self, f)[keep] for f in ("times", "values")}
        valid = None if self.valid is None else self.valid[keep]
        sigma = self.sigma[keep] if self.sigma.ndim == 2 and self.sigma.shape[0] == len(keep) else self.sigma
        return dataclasses.replace(self, **cut, valid=valid, sigma=sigma)
