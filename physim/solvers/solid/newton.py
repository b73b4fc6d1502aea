"""Static equilibrium of an elastic solid by Newton's method, in double precision."""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor

from physim.errors import SimulationError
from physim.solvers.solid.solver import SolverSolid

CLOSE = 1e-9
"""Forces left at rest, as a share of the load."""
ITERATIONS = 60
"""Most steps."""
ENOUGH = 0.2
"""Share of the error that a step with an old tangent may leave; beyond it the tangent is made anew."""
SMALL = 0.1
"""Forces in loads above which a step may turn parts of the body by angles that are not small."""
HALVINGS = 5
"""Lengths of a step that are tried."""
LEAST = 1e-4
"""Stiffness that is added at first where the tangent is not stable, in units of its largest."""
LOOSE = "the body can move without any force: is it held by a wall or clamp?"


class Statics:
    """The equation "elastic forces = load" of a solid, with its exact tangent.

    An element's energy is the sum of phi_p(F_p, mean J) = v_p psi((mean J / J_p)^(beta / dim) F_p), so its second
    derivative is that of phi_p, particle by particle, and terms of rank two for the mean. Walls and clamps hold.

    Args:
        solver: with elastic materials that have an energy. What is asked for is at their present parameters.
    """

    def __init__(self, solver: SolverSolid) -> None:
        self.solver = solver
        stencil, self._dim = solver.stencil, solver.model.grid.dim
        self._element = torch.as_tensor(stencil.element.astype(np.int64))
        self._table = torch.as_tensor(stencil.node_table().astype(np.int64))
        count, first = len(self._table), np.asarray(stencil.first, dtype=np.int64)
        self._vol = solver.model.vol0.detach().cpu().double()[torch.as_tensor(stencil.order)]
        total = torch.zeros(count, dtype=torch.float64).index_add(0, self._element, self._vol)
        self._share = self._vol / total[self._element]
        self._beta = torch.as_tensor(solver.beta)[self._element]
        # Each particle's place in a table of elements that is as wide as the fullest one.
        self._wide = int(np.diff(first).max())
        self._slot = self._element * self._wide + torch.as_tensor(
            np.arange(len(self._element)) - first[stencil.element]
        )
        slopes = np.zeros((len(self._element), 3, self._table.shape[1]))
        for axis in range(self._dim):
            slopes[:, axis] = stencil.matrix(stencil.weights, axis)
        # dF = B du of each element; the nodes' components are the columns.
        B = torch.zeros(count * self._wide, 3, 3, self._table.shape[1], 3, dtype=torch.float64)
        for i in range(3):
            B[self._slot, i, :, :, i] = torch.as_tensor(slopes)
        self._B = B.reshape(count, 9 * self._wide, -1)
        self._dofs, self._signs, self.size = self._numbered()
        self._factors: Any = None
        self._tangent: tuple[Tensor, sparse.csc_matrix] | None = None

    def _numbered(self) -> tuple[Tensor, Tensor, int]:
        """The unknown that moves each node's component, `size` where held, and with which sign, (m, 3) each."""
        c = self.solver.conditions
        sign = np.array(c.sign, dtype=np.float64)
        sign[:, self._dim :] = 0.0
        own = (c.leader == np.arange(len(c.leader)))[:, None] & (sign != 0.0)
        number = np.full(own.shape, own.sum(), dtype=np.int64)
        number[own] = np.arange(own.sum())
        dofs = np.where(sign != 0.0, number[c.leader], own.sum())
        return torch.as_tensor(dofs), torch.as_tensor(sign), int(own.sum())

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where entries of the elements' tangents go: those kept, their signs and places in the data; rows, columns."""
        count = len(self._table)
        dofs = self._dofs[self._table].reshape(count, -1).numpy()
        signs = self._signs[self._table].reshape(count, -1).numpy()
        rows = np.broadcast_to(dofs[:, :, None], (*dofs.shape, dofs.shape[1])).reshape(-1)
        columns = np.broadcast_to(dofs[:, None, :], (*dofs.shape, dofs.shape[1])).reshape(-1)
        kept = np.flatnonzero((rows < self.size) & (columns < self.size))
        factor = (signs[:, :, None] * signs[:, None, :]).reshape(-1)[kept]
        unique, place = np.unique(columns[kept] * np.int64(self.size) + rows[kept], return_inverse=True)
        starts = np.searchsorted(unique, np.arange(self.size + 1) * np.int64(self.size))
        return kept, factor, place, unique % self.size, starts

    def rest(self) -> Tensor:
        """No displacement of any node [m], (m, 3)."""
        return torch.zeros(self._dofs.shape, dtype=torch.float64)

    def spread(self, z: Tensor) -> Tensor:
        """Displacements of all nodes [m], (m, 3), of the unknowns, (k,)."""
        return self._signs * torch.cat([z, z.new_zeros(1)])[self._dofs]

    def gathered(self, forces: Tensor) -> Tensor:
        """Forces on the unknowns, (k,), of those on the nodes, (m, 3)."""
        out = forces.new_zeros(self.size + 1)
        return out.index_add(0, self._dofs.reshape(-1), (self._signs * forces).reshape(-1))[:-1]

    def load(self) -> Tensor:
        """Gravity and point forces on the unknowns [N], (k,)."""
        return self.gathered(self.solver.load(torch.zeros(1, dtype=torch.float64)))

    def forces(self, u: Tensor) -> Tensor:
        """Elastic forces on the unknowns [N], (k,), at displacements of the nodes [m], (m, 3).

        Raises:
            SimulationError: the material is turned inside out.
        """
        F, to_mean, mean = self._deformation(u)
        first, _ = self._derivatives(F, mean, tangent=False)
        return self._nodal(first, to_mean)

    def energy(self, u: Tensor) -> float:
        """Elastic energy less the work of the load [J]; infinite where the material is turned inside out."""
        try:
            F, _, mean = self._deformation(u)
        except SimulationError:
            return math.inf
        with torch.no_grad():
            stored = float(self._energies(torch.cat([F.reshape(-1, 9), mean[:, None]], dim=1)).sum())
        found = stored - float((self.solver.load(u) * u).sum())
        return found if math.isfinite(found) else math.inf

    def tangent(self, u: Tensor) -> sparse.csc_matrix:
        """Derivative of the elastic forces [N/m], (k, k).

        Raises:
            SimulationError: the material is turned inside out.
        """
        F, to_mean, mean = self._deformation(u)
        first, second = self._derivatives(F, mean, tangent=True)
        by_mean = self._summed(first[:, 9])
        A = second[:, :9, :9] + (by_mean[self._element] * self._share)[:, None, None] * _cofactor_slope(F)
        count, k = len(self._table), self._B.shape[2]
        left = torch.zeros(count * self._wide, 9, k, dtype=torch.float64)
        left[self._slot] = A @ self._B.reshape(-1, 9, k)[self._slot]
        K = self._B.mT @ left.reshape(count, -1, k)
        cross, mean_slope = self._pulled(second[:, :9, 9]), self._pulled(to_mean.reshape(-1, 9))
        K += cross[:, :, None] * mean_slope[:, None] + mean_slope[:, :, None] * cross[:, None]
        K += self._summed(second[:, 9, 9])[:, None, None] * mean_slope[:, :, None] * mean_slope[:, None]
        return self._assembled(K)

    def turned(self, u: Tensor, move: Tensor) -> Tensor:
        """Displacements [m], (m, 3), after a small move at `u` whose rotations are taken as finite ones.

        A linear map that turns also stretches, by half of the angle squared, which nearly incompressible bodies answer
        with huge forces. So each particle's dF = (w + e) F, with w skew and e symmetric, is made exp(w) (1 + e) F, and
        the displacements are those that fit these best (Huang et al. 2011, doi:10.1145/1964921.1964986).
        """
        F, _, _ = self._deformation(u)
        slopes = (self._B @ move[self._table].reshape(len(self._table), -1, 1)).reshape(-1, 3, 3)[self._slot]
        G = slopes @ torch.linalg.inv(F)
        skew, eye = 0.5 * (G - G.mT), torch.eye(3, dtype=torch.float64)
        target = torch.linalg.matrix_exp(skew) @ (eye + G - skew) @ F - eye
        nodal = self.rest().index_add(
            0, self._table.reshape(-1), self._pulled(self._vol[:, None] * target.reshape(-1, 9)).reshape(-1, 3)
        )
        return self.spread(torch.as_tensor(self._fitter.solve(self.gathered(nodal).numpy())))

    @cached_property
    def _fit(self) -> sparse.csc_matrix:
        """The least-squares problem of `turned`: sums of v |dF|^2 [m], (k, k)."""
        weights = self._vol.new_zeros(len(self._table) * self._wide)
        weights[self._slot] = self._vol
        root = self._B * weights.sqrt().repeat_interleave(9).reshape(len(self._table), -1, 1)
        return self._assembled(root.mT @ root)

    @cached_property
    def _fitter(self) -> Any:
        return _factored(self._fit)

    def _assembled(self, K: Tensor) -> sparse.csc_matrix:
        kept, factor, place, rows, starts = self._places
        data = np.bincount(place, weights=factor * K.reshape(-1).numpy()[kept], minlength=len(rows))
        return sparse.csc_matrix((data, rows, starts), shape=(self.size, self.size))

    def solve(self, force: Tensor, u: Tensor | None = None, shift: float = 0.0) -> Tensor:
        """Displacements of the nodes [m], (m, 3), that a force [N], (k,), makes, by the tangent at `u` or the last one.

        Args:
            force: on the unknowns.
            u: displacements of the nodes [m].
            shift: stiffness that is added [in units of the tangent's largest], for one that is not stable.

        Raises:
            SimulationError: the tangent is singular.
        """
        if u is not None:
            if self._tangent is None or self._tangent[0] is not u:
                self._tangent = (u, self.tangent(u))
            K = self._tangent[1]
            if shift > 0.0:
                K = K + shift * float(K.diagonal().max() / self._fit.diagonal().max()) * self._fit
            self._factors = _factored(K)
        move = torch.as_tensor(self._factors.solve(force.numpy()))
        if not bool(torch.isfinite(move).all()):
            raise SimulationError(LOOSE)
        return self.spread(move)

    @property
    def factored(self) -> bool:
        """Whether `solve` has a tangent."""
        return self._factors is not None

    def _summed(self, values: Tensor) -> Tensor:
        """Sums over the particles of each element."""
        return values.new_zeros(len(self._table)).index_add(0, self._element, values)

    def _pulled(self, P: Tensor) -> Tensor:
        """B^T P of each element, (e, nodes * 3), of values at the particles, (n, 9)."""
        padded = P.new_zeros(len(self._table) * self._wide, 9)
        padded[self._slot] = P
        return (self._B.mT @ padded.reshape(len(self._table), -1, 1))[:, :, 0]

    def _nodal(self, first: Tensor, to_mean: Tensor) -> Tensor:
        P = first[:, :9] + (self._summed(first[:, 9])[self._element])[:, None] * to_mean.reshape(-1, 9)
        nodal = self.rest().index_add(0, self._table.reshape(-1), self._pulled(P).reshape(-1, 3))
        return self.gathered(nodal)

    def _deformation(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F, d(mean J)/dF, (n, 3, 3) each, and the element's mean J, (n,), in the order of the elements."""
        slopes = self._B @ u[self._table].reshape(len(self._table), -1, 1)
        F = torch.eye(3, dtype=torch.float64) + slopes.reshape(-1, 3, 3)[self._slot]
        J = torch.linalg.det(F)
        if not bool((J > 0).all()) or not bool(torch.isfinite(F).all()):
            raise SimulationError("on the way to a static shape the material turns inside out.")
        to_mean = (self._share * J)[:, None, None] * torch.linalg.inv(F).mT
        return F, to_mean, self._summed(self._share * J)[self._element]

    def _derivatives(self, F: Tensor, mean: Tensor, *, tangent: bool) -> tuple[Tensor, Tensor]:
        """First derivatives of phi by F and the mean J, (n, 10), and second ones, (n, 10, 10), or none."""
        x = torch.cat([F.reshape(-1, 9), mean[:, None]], dim=1).detach().requires_grad_()
        rows: list[Tensor] = []
        with torch.enable_grad():
            (first,) = torch.autograd.grad(self._energies(x).sum(), x, create_graph=tangent)
            for i in range(10 if tangent else 0):
                rows.append(torch.autograd.grad(first[:, i].sum(), x, retain_graph=True)[0])
        return first.detach(), torch.stack(rows, dim=1).detach() if rows else first.new_zeros(0, 10, 10)

    def _energies(self, x: Tensor) -> Tensor:
        """Phi [J] of each particle from its F and its element's mean J, (n, 10)."""
        F, mean = x[:, :9].reshape(-1, 3, 3), x[:, 9]
        live = torch.tensor([1.0, 1.0, 1.0 if self._dim == 3 else 0.0], dtype=torch.float64)
        s = (mean / torch.linalg.det(F)) ** (self._beta / self._dim)
        scaled = (s[:, None] * live + (1.0 - live))[:, :, None] * F
        parts, model, stencil = [], self.solver.model, self.solver.stencil
        for index, (body, span) in enumerate(zip(model.bodies, stencil.spans, strict=True)):
            rows = slice(int(stencil.first[span[0]]), int(stencil.first[span[1]]))
            theta = self.solver.theta(index).detach().cpu().double()
            parts.append(model.materials[body.material].energy(scaled[rows], theta=theta))  # type: ignore[operator]
        return self._vol * torch.cat(parts)


def static_shape(statics: Statics, start: Tensor | None = None) -> Tensor:
    """Displacements of the nodes [m], (m, 3) float64, in which elastic forces balance gravity and point loads.

    Steps of Newton's method, halved until they lower the energy; where none does, the tangent is not stable, and is
    made stiffer. Near the wanted shape a few steps with the last tangent suffice.

    Args:
        statics: of a body that is held.
        start: displacements to begin with [m], (m, 3); none unless given.

    Raises:
        SimulationError: no equilibrium is found.
    """
    begins = [statics.rest()] if start is None else [start.double().cpu(), statics.rest()]
    for u in begins:
        found = _settled(statics, u)
        if found is not None:
            return found
    raise SimulationError("no static shape is found: is every body held by a wall or clamp, and stiff for its weight?")


def _settled(statics: Statics, u: Tensor) -> Tensor | None:
    """The equilibrium found from `u`; None where the search ends elsewhere."""
    load = statics.load()
    size, before, shift = float(load.norm()), math.inf, 0.0
    for _ in range(ITERATIONS):
        try:
            left = load - statics.forces(u)
            error = float(left.norm())
            if error <= CLOSE * size:
                return u
            fresh = not statics.factored or error > ENOUGH * min(before, size)
            move, before = statics.solve(left, u if fresh else None, shift), error
        except SimulationError:
            return None
        if error <= SMALL * size:
            u, shift = u + move, 0.0
            continue
        found = _lower(statics, u, move)
        shift = max(LEAST, 10.0 * shift) if found is None else 0.25 * shift if shift > LEAST else 0.0
        u = u if found is None else found
        if shift > 1.0:
            break
    return None


def _lower(statics: Statics, u: Tensor, move: Tensor) -> Tensor | None:
    """The farthest point along a move, halved again and again, where the energy is lower; None without one."""
    here, share = statics.energy(u), 1.0
    for _ in range(HALVINGS):
        there = statics.turned(u, share * move)
        if statics.energy(there) < here:
            return there
        share *= 0.5
    return None


def _factored(K: sparse.csc_matrix) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", linalg.MatrixRankWarning)
        try:
            return linalg.splu(K, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options={"SymmetricMode": True})
        except (RuntimeError, linalg.MatrixRankWarning):
            raise SimulationError(LOOSE) from None


def _cofactor_slope(F: Tensor) -> Tensor:
    """Second derivative of det F by F, (n, 9, 9): eps_ika eps_jlb F_ab."""
    eps = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        eps[i, j, k], eps[k, j, i] = 1.0, -1.0
    return torch.einsum("ika,jlb,nab->nijkl", eps, eps, F).reshape(-1, 9, 9)
