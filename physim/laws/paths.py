"""Stress-stretch tests in time: a material is led along a prescribed path, as laboratories load, unload and hold.

The viscous stress, the return map and its history act as in a simulation: the deformation is advanced by
`F_trial = f F`, projected, and the Kirchhoff stress read. The steps are the path's own, thinned where they are fine and
divided where they are coarse, until halving them no longer changes the stress.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from physim.checks import check_shape
from physim.errors import FitError, InputError
from physim.laws.compose import KINDS
from physim.laws.material import Material
from physim.laws.path_steps import cut
from physim.laws.principal import Diagonal, on_axes
from physim.laws.tables import TESTS, Measure, Test, isochoric, sheared

LEVELS = 8
TOLERANCE = 1e-3
REMEMBERED = 256
"""Parameters of which the level that settled is kept."""
STEP = 3e-5
"""Relative step of the differences by parameters: truncated at 1e-9, rounded at 1e-11. For small weights absolute."""
LOST = 1e-9
"""Of the largest stress: change by a step that is too small to be told from rounding."""
_NEWTON = 40
_SOLVED = 1e-11


def path_stress(
    material: Material,
    test: Test,
    stretch: Tensor,
    time: Tensor,
    *,
    incompressible: bool = True,
    measure: Measure = "nominal",
    theta: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Stress [Pa], (m,), along a path of a test; differentiable once with respect to the parameters, weights included.

    Along fixed axes the derivative is that of central differences, good to 1e-8: all moved copies of the material go
    along together.

    Args:
        material: isotropic; all of its laws act.
        test: uniaxial, equibiaxial, pure_shear or simple_shear.
        stretch: stretch [-] of the loaded direction, or the amount of shear [-], (m,); linear in time between the rows.
        time: of the rows [s], (m,), not falling. The body is undeformed at time 0; a first row at time 0, or two rows
            at one time, are a jump.
        incompressible: J = 1 whatever the bulk modulus; otherwise the stress-free stretch is solved for at every step.
        measure: nominal, force per undeformed area P, or cauchy, force per deformed area.
        theta: native parameters (1, k); the material's own unless given.
        tolerance: error by the steps as a share of the largest stress.

    Raises:
        InputError: unknown test, or a path that is none.
        FitError: the steps do not converge, or no stress-free thickness exists.
    """
    path = StretchPath(
        material, test, stretch, time, incompressible=incompressible, measure=measure, tolerance=tolerance
    )
    return path.stress(material.theta() if theta is None else theta)


class StretchPath:
    """A path of a test that is gone many times, with different parameters: `path_stress` for a fit.

    How fine the steps are depends on the parameters of a call and nothing else, so calls give the same in any order and
    from any thread.

    Args:
        material, test, stretch, time, incompressible, measure, tolerance: as for `path_stress`.
        least: level of the coarsest steps that are tried; see `begun`.
    """

    def __init__(
        self,
        material: Material,
        test: Test,
        stretch: Tensor,
        time: Tensor,
        *,
        incompressible: bool = True,
        measure: Measure = "nominal",
        tolerance: float = TOLERANCE,
        least: int = 1,
    ) -> None:
        self._walk = _walk(material, test, stretch, time, incompressible, measure)
        self._name, self._tolerance = f"{material.composition}: the stress at row {{}} of the {test} path", tolerance
        self._least = least
        self._levels: dict[bytes, int] = {}  # by parameters: derivatives are asked for where the stress was

    def begun(self, theta: Tensor) -> StretchPath:
        """The same path with steps that are never coarser than what native parameters (1, k) need.

        Parameters near these are then gone with the same steps, and the stress is smooth in them.
        """
        path = copy.copy(self)
        path._levels = {}
        with torch.no_grad():
            try:
                path._least, *_ = self._settled(theta.detach(), wanted=False)
            except FitError:  # it will be told where these parameters are asked for
                pass
        return path

    def stress(self, theta: Tensor) -> Tensor:
        """Stress [Pa], (m,), for native parameters (1, k).

        Raises:
            FitError: the steps do not converge, a stress is no number, or no stress-free thickness exists.
        """
        with torch.no_grad():
            level, stress, slopes = self._settled(theta.detach(), wanted=theta.requires_grad)
        if not theta.requires_grad:
            return stress
        return self._walk.stress(level, theta) if slopes is None else _Known.apply(theta, stress, slopes)

    def deformation(self, theta: Tensor) -> Tensor:
        """Deformation gradients of the rows, (m, 3, 3), for native parameters (1, k); plastic strain is left out.

        Raises:
            FitError: as `stress`.
        """
        with torch.no_grad():
            level, *_ = self._settled(theta.detach(), wanted=False)
            return self._walk.deformation(level, theta.detach())

    def _settled(self, theta: Tensor, *, wanted: bool) -> tuple[int, Tensor, Tensor | None]:
        """The first level that is fine enough, the stress there, and its slopes where they are wanted and known."""
        walk, key = self._walk, theta.numpy().tobytes()
        known = self._levels.get(key)
        if known is not None:
            return known, *walk.both(known, theta, wanted)
        level = self._least
        coarse, (stress, slopes) = walk.stress(level - 1, theta), walk.both(level, theta, wanted)
        while not self._close(coarse, stress, level):
            level += 1
            coarse, (stress, slopes) = stress, walk.both(level, theta, wanted)
        if len(self._levels) >= REMEMBERED:
            self._levels.clear()
        self._levels[key] = level
        return level, stress, slopes

    def _close(self, coarse: Tensor, fine: Tensor, level: int) -> bool:
        """Whether halving the steps changed little: of second order, what is left is a third of the change.

        What is no number in one of them is not settled.
        """
        change, good = (fine - coarse).abs() / 3.0, torch.isfinite(fine)
        bad = ~good & ~torch.isfinite(coarse) if level < LEVELS else ~good
        if bool(bad.any()):
            row = self._name.format(int(bad.int().argmax()))
            raise FitError(f"{row} is not finite, however small the steps are: the law has none there.")
        if bool(good.all()) and bool((change <= self._tolerance * fine.abs().max()).all()):
            return True
        if level >= LEVELS:
            row = int(change.argmax())
            raise FitError(
                f"{self._name.format(row)} still changes by {float((fine - coarse)[row]):.3g} Pa when steps are "
                "halved; it may jump there."
            )
        return False


class _Known(torch.autograd.Function):
    """Stress whose derivative by the parameters is known."""

    @staticmethod
    def forward(ctx, theta: Tensor, stress: Tensor, slopes: Tensor) -> Tensor:
        """Stress (m,), slopes (m, k)."""
        ctx.save_for_backward(slopes)
        return stress.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor, None, None]:
        """Cotangent of theta, (1, k)."""
        (slopes,) = ctx.saved_tensors
        return (cotangent @ slopes)[None], None, None


def _walk(
    material: Material, test: Test, stretch: Tensor, time: Tensor, incompressible: bool, measure: Measure
) -> _Walk:
    check_shape("stretch", stretch, (None,))
    check_shape("time", time, (len(stretch),))
    if test not in TESTS:
        raise InputError(f"'{test}' is not a test. Allowed: {', '.join(TESTS)}.")
    if material.elastic.fibre:
        raise InputError(f"{material.composition}: these tests are of isotropic materials.")
    stretch, time = (v.detach().to(torch.float64) for v in (stretch, time))
    for name, values in (("stretch", stretch), ("time", time)):
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"{name}: row {int(torch.isfinite(values).int().argmin())} is not finite.")
    if test != "simple_shear" and bool((stretch <= 0).any()):
        raise InputError(f"stretch: {float(stretch.min()):g} is not a stretch; it must be above 0.")
    back = torch.cat([time[:1], time.diff()]) < 0
    if bool(back.any()):
        raise InputError(f"time: row {int(back.int().argmax())} is before the row above, or before 0.")
    if test == "simple_shear":
        return _Plane(material, stretch, time)
    return _Axes(material, test, stretch, time, incompressible, measure)


@dataclass
class _Walk:
    """A material on its way along a path of m rows."""

    material: Material
    stretch: Tensor
    time: Tensor

    def ways(self, rest: float) -> tuple[Tensor, Tensor]:
        """Where the way to each row began, and how long it took [s], (m,) each."""
        begin = torch.cat([self.stretch.new_tensor([rest]), self.stretch[:-1]])
        return begin, torch.cat([self.time[:1], self.time.diff()])

    def stress(self, level: int, theta: Tensor) -> Tensor:
        """Stress of the rows [Pa], (m,), with the steps of a level; theta is (1, k)."""
        raise InputError("a walk needs a test.")

    def deformation(self, level: int, theta: Tensor) -> Tensor:
        """Deformation gradients of the rows that the elastic law sees, (m, 3, 3); theta is (1, k)."""
        raise InputError("a walk needs a test.")

    def both(self, level: int, theta: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
        """Stress, and d(stress)/d(theta), (m, k), where it is wanted and found without autograd."""
        return self.stress(level, theta), None


class _Plane(_Walk):
    """Simple shear, in 3x3 matrices."""

    def stress(self, level: int, theta: Tensor) -> Tensor:
        """Shear stress."""
        F, h = self._gone(level, theta)
        begin, took = self.ways(0.0)
        rate = torch.where(took > 0, (self.stretch - begin) / torch.where(took > 0, took, 1.0), 0.0)
        L = sheared(rate) - torch.eye(3, dtype=torch.float64)
        return self.material.kirchhoff(F, L, h[:, : self.material.history_size], theta)[:, 0, 1]

    def deformation(self, level: int, theta: Tensor) -> Tensor:
        """See `_Walk`."""
        return self._gone(level, theta)[0]

    def _gone(self, level: int, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Deformation and history of the rows."""
        material, project = self.material, torch.vmap(self.material.laws.torch_project())
        steps = cut(self.stretch, self.time, 0.0, level)
        F, h = torch.eye(3, dtype=torch.float64)[None], material.rest_history(1)
        h = h if material.history_size else torch.zeros(1, 1, dtype=torch.float64)
        states = [(F, h)]
        for amount, dt in zip(steps.stretch.diff(), steps.time.diff(), strict=True):
            f = sheared(amount[None])
            F, h = project(f @ F, h, f, theta, dt[None])
            states.append((F, h))
        F, h = (torch.cat(parts)[steps.before] for parts in zip(*states, strict=True))
        f, every = sheared(self.stretch - steps.stretch[steps.before]), theta.expand(len(F), -1)
        return project(f @ F, h, f, every, self.time - steps.time[steps.before])


class _Axes(_Walk):
    """Tests along fixed axes: matrices are (3, m, n), parameters (n,), history (m, n) each; n copies go along."""

    def __init__(
        self, material: Material, test: Test, stretch: Tensor, time: Tensor, incompressible: bool, measure: Measure
    ) -> None:
        super().__init__(material, stretch, time)
        self.test: Test = test
        self.incompressible, self.measure = incompressible, measure
        self.project = on_axes(material.laws.project_parts())
        self.weights = [i for kind in KINDS for i in range(*material.laws.network_columns(kind))]
        self.tau = on_axes(material.laws.stress_parts())

    def both(self, level: int, theta: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
        """Stress, and its central differences by theta; moved copies of the material go along together."""
        if not wanted:
            return self.stress(level, theta), None
        size = STEP * torch.where(theta[0] == 0.0, 1.0, theta[0].abs())
        small = [i for i in self.weights if 0.0 < abs(float(theta[0, i])) < 1.0]
        sizes = torch.cat([size, torch.full((len(small),), STEP, dtype=size.dtype)])
        moves = sizes[:, None] * torch.eye(len(size), dtype=size.dtype)[[*range(len(size)), *small]]
        found = self.stress(level, theta + torch.cat([moves, -moves, torch.zeros_like(theta)]))
        (up, down), stress = found[:, :-1].chunk(2, dim=1), found[:, -1]
        change, slopes = (up - down).abs().amax(dim=0), (up - down) / (2.0 * sizes)
        for i, column in enumerate(small, start=len(size)):
            # A share of a weight that is next to nothing moves the stress by less than it is rounded to.
            if bool(change[column] < LOST * stress.abs().max()) and bool(torch.isfinite(change[i])):
                slopes[:, column] = slopes[:, i]
        return stress, slopes[:, : len(size)]

    def stress(self, level: int, theta: Tensor) -> Tensor:
        """Stress of the rows [Pa], (m,), or (m, n) for theta (n, k) with n > 1."""
        columns = theta.unbind(1)
        F, h, y = self._gone(level, theta)
        begin, took = self.ways(1.0)
        tau = self._tau(F, h, self._rate(begin[:, None], self.stretch[:, None], took[:, None], y, y), columns)
        along = tau[0] - tau[2] if self.incompressible else tau[0]
        if self.measure == "nominal":
            along = along / self.stretch[:, None]
        elif not self.incompressible:
            along = along / torch.exp(y * (2.0 if self.test == "uniaxial" else 1.0))
        return along[:, 0] if theta.shape[0] == 1 else along

    def deformation(self, level: int, theta: Tensor) -> Tensor:
        """See `_Walk`."""
        return torch.diag_embed(self._gone(level, theta)[0][..., 0].mT)

    def _gone(self, level: int, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Deformation, history and free stretch of the rows, (..., m, n) each."""
        steps, columns = cut(self.stretch, self.time, 1.0, level), theta.unbind(1)
        n = theta.shape[0]
        F, y = torch.ones(3, 1, n, dtype=torch.float64), torch.zeros(1, n, dtype=torch.float64)
        h = self.material.rest_history(n).mT[:, None]
        states = [(F, h, y)]
        for old, new, dt in zip(steps.stretch[:-1], steps.stretch[1:], steps.time.diff(), strict=True):
            F, h, y = self._step(F, h, y, (old, new, dt), columns)
            states.append((F, h, y))
        F, h, y = (torch.cat(parts, dim=-2)[..., steps.before, :] for parts in zip(*states, strict=True))
        gone = self.time - steps.time[steps.before]
        way = tuple(v[:, None] for v in (steps.stretch[steps.before], self.stretch, gone))
        return self._step(F, h, y, way, columns)

    def _total(self, s: Tensor, y: Tensor) -> Tensor:
        """Stretches of the body, (3, m, n); y is the logarithm of the free stretch over the isochoric one."""
        free = isochoric(self.test, s) * torch.exp(y)
        second = {"uniaxial": free, "equibiaxial": s, "pure_shear": torch.ones_like(s)}[self.test]
        return torch.stack(torch.broadcast_tensors(s, second, free))

    def _rate(self, old: Tensor, new: Tensor, dt: Tensor, y_old: Tensor, y_new: Tensor) -> Tensor:
        """Mean rates of stretching [1/s] of a way, (3, m, n); zero in a jump."""
        way = torch.log(self._total(new, y_new) / self._total(old, y_old))
        return torch.where(dt > 0, way / torch.where(dt > 0, dt, 1.0), 0.0)

    def _tau(self, F: Tensor, h: Tensor, L: Tensor, columns: tuple[Tensor, ...]) -> Tensor:
        past = h.unbind(0)
        return self.tau(Diagonal(F), Diagonal(L), past, columns).entries.expand_as(F + columns[0])

    def _step(
        self, F: Tensor, h: Tensor, y: Tensor, way: tuple[Tensor, ...], columns: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Deformation, history and free stretch after a step from and to a stretch in a time [s]."""
        old, new, dt = way
        begin = self._total(old, y)

        def after(z: Tensor, columns: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            f = self._total(new, z) / begin
            moved, now = self.project(Diagonal(f * F), h.unbind(0), Diagonal(f), columns, dt)
            return moved.entries, torch.stack([torch.broadcast_to(v, y.shape) for v in now]) if len(h) else h

        if self.incompressible:
            return *after(y, columns), y

        def residual(z: Tensor, columns: tuple[Tensor, ...]) -> Tensor:
            return self._tau(*after(z, columns), self._rate(old, new, dt, y, z), columns)[2]

        z = self._free(residual, y, columns)
        return *after(z, columns), z

    def _free(self, residual: Callable[..., Tensor], y: Tensor, columns: tuple[Tensor, ...]) -> Tensor:
        """The free stretch at which tau_33 = 0, by Newton's method."""
        shear, bulk = self.material.elastic.moduli(torch.stack(columns[: len(self.material.elastic.params)], dim=-1))
        scale = float((shear + bulk).max())
        for _step in range(_NEWTON):
            r = residual(y, columns)
            change = r * (2.0 * STEP) / (residual(y + STEP, columns) - residual(y - STEP, columns))
            if bool((r.abs() < _SOLVED * scale).all()):
                return y - change
            y = y - change.clamp(-0.2, 0.2)
        raise FitError(
            f"{self.material.composition}: no stress-free side on the {self.test} path; the law is unstable there. "
            "Use incompressible: true, or a smaller range."
        )
