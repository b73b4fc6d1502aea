"""One stage of a fit: which parameters, which part of the record, which optimiser, when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from physim.errors import InputError


class Method(Enum):
    """How a stage searches."""

    GAUSS_NEWTON = "gauss_newton"
    """Levenberg-Marquardt on residuals: the choice for up to about ten parameters."""
    ADAM = "adam"
    """Adam on adjoint gradients: many parameters, noisy or kinked losses."""
    LBFGS = "lbfgs"
    """L-BFGS with a strong Wolfe search on adjoint gradients: many parameters, smooth losses."""


@dataclass(frozen=True)
class EarlyStop:
    """When a stage ends because what it does not fit gets no better; the best point by that measure is kept.

    Attributes:
        begin: values from this time on are kept out of the fit and looked at [s]; None for none.
        recordings: held-out recordings that are looked at.
        every: iterations between looks.
        patience: looks in a row without a smaller loss after which the stage ends.
    """

    begin: float | None = None
    recordings: tuple[str, ...] = ()
    every: int = 5
    patience: int = 5


@dataclass(frozen=True)
class Stage:
    """What is done for how long.

    Attributes:
        name: for the log.
        method: the optimiser.
        parameters: fitted quantities freed in this stage; all when empty.
        recordings: experiments fitted in this stage; all when empty.
        begin: start of the fitted window [s]; None for the start of the record.
        end: end of the fitted window [s]; None for its end.
        iterations: at most so many.
        rate: first step of Adam, or largest step of Gauss-Newton and L-BFGS, in raw units.
        tolerance: stop when no raw parameter moves by more than this.
        difference: half width of the central differences of Gauss-Newton in raw units.
        overrides: scene settings changed for this stage, such as ("grid.dx=10mm",).
        average: share in [0, 1) of the running mean of the points that each step of Adam keeps; the mean is taken if it
            is better than every point. 0 for none.
        early: when to stop before all iterations are done; None for never.
    """

    name: str = "fit"
    method: Method = Method.GAUSS_NEWTON
    parameters: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    begin: float | None = None
    end: float | None = None
    iterations: int = 25
    rate: float | None = None
    tolerance: float = 1e-3
    difference: float = 0.01
    overrides: tuple[str, ...] = ()
    average: float = 0.0
    early: EarlyStop | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise InputError(f"stage '{self.name}': iterations must be at least 1, got {self.iterations}.")
        if self.rate is not None and not self.rate > 0:
            raise InputError(f"stage '{self.name}': rate must be positive, got {self.rate}.")
        if not 0.0 <= self.average < 1.0 or (self.average and self.method is not Method.ADAM):
            raise InputError(
                f"stage '{self.name}': average is a share from 0 to below 1, for adam; got {self.average}."
            )
        if not self.tolerance >= 0 or not self.difference > 0:
            raise InputError(f"stage '{self.name}': tolerance and difference must be positive.")
        if self.begin is not None and self.end is not None and not self.begin < self.end:
            raise InputError(f"stage '{self.name}': the window {self.begin} to {self.end} s is empty.")
