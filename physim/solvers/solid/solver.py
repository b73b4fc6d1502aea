"""A total-Lagrangian grid solid: bodies that keep their topology, without transfer between particles and grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from physim.bridge import Stepwise, run_segment
from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.sim.model import Model
from physim.sim.state import Control, NodalState, ParticleState
from physim.solvers.solid.boundary import find_conditions
from physim.solvers.solid.interpolation import (
    Projection,
    lumped_mass,
    particle_matrix,
    quadrature_matrix,
    to_torch,
    value_matrix,
)
from physim.solvers.solid.launches import Workspace
from physim.solvers.solid.loads import PointLoad
from physim.solvers.solid.program import Substep
from physim.solvers.solid.stability import Linearisation, dilatation_share, relaxation_share
from physim.solvers.solid.stencil import build_stencil

# Share of the linear stability limit at the present state that `stable_dt` allows: room for stiffening in motion.
SAFETY = 0.8


class SolverSolid:
    """Quadratic B-splines on a grid in the reference configuration; the nodes carry displacement and velocity.

    The material points are quadrature points with constant weights; mass is lumped at the nodes; symplectic Euler
    (drift, then kick) in time. There is no numerical damping. Mirrored walls on a node line or midway between nodes
    hold a body exactly there, and so do STICK planes and boxes whose face lies on such a line and against which the
    body lies flush; any other STICK collider holds the nodes inside it.

    Args:
        model: grid, materials, walls, clamps. The grid is the reference grid; a body that ends midway between nodes
            has no cut cells.
        X: reference positions [m], (n, 3); their dtype and device are those of the simulation.
        v: initial velocities [m/s], (n, 3); zero unless given.
        loads: masses and forces at points.
        mean_dilatation: how much of a particle's volume change is replaced by its cell's mean, 0 to 1: cures locking
            near nu = 0.5. Chosen from each material's ratio of bulk to shear modulus unless given.

    Raises:
        InputError: shapes disagree, numbers are not finite, points lie outside the grid or beyond a wall, or a
            collider asks for contact.
    """

    def __init__(
        self,
        model: Model,
        X: Tensor,
        v: Tensor | None = None,
        *,
        loads: Sequence[PointLoad] = (),
        mean_dilatation: float | None = None,
    ) -> None:
        n = model.vol0.shape[0]
        for name, value in (("X", X), ("v", v)):
            if value is not None:
                check_shape(name, value, (n, 3))
                check_finite(name, value)
        if mean_dilatation is not None and not 0.0 <= mean_dilatation <= 1.0:
            raise InputError(f"mean_dilatation must lie between 0 and 1, got {mean_dilatation}.")
        self.model, self.loads = model, tuple(loads)
        self._X, self._v = X, v
        at = X.detach().cpu().double().numpy()
        vol0, mass = (t.detach().cpu().double().numpy() for t in (model.vol0, model.mass))
        self.stencil = build_stencil(model.grid, at, vol0, model.bodies)
        self.conditions = find_conditions(model, self.stencil, at)
        self.beta = np.zeros(len(self.stencil.cells))
        for body, (start, stop) in zip(model.bodies, self.stencil.spans, strict=True):
            own = dilatation_share(model.materials[body.material])
            self.beta[start:stop] = own if mean_dilatation is None else mean_dilatation
        self._matrix = particle_matrix(self.stencil, at)
        self._quadrature = quadrature_matrix(self.stencil)
        self._mass = mass
        nodal = lumped_mass(self.stencil, mass[self.stencil.order])
        # One row per load: the mean of the weights at its points.
        self._load_values = sparse.vstack(
            [sparse.csr_matrix((0, len(nodal)))]
            + [sparse.csr_matrix(value_matrix(self.stencil, p.points).mean(axis=0)) for p in loads],
            format="csr",
        )
        nodal += self._load_values.T @ np.array([p.mass for p in loads])
        self.nodal_mass = nodal
        self._cache: dict[tuple, Workspace] = {}
        self._tensors: dict[tuple, Tensor] = {}

    @property
    def inelastic(self) -> bool:
        """Whether any material has a return map, so that the state carries F and h."""
        return any(m.evolves for m in self.model.materials)

    def initial_state(self, *, u: Tensor | None = None, v: Tensor | None = None) -> NodalState:
        """The state at t = 0 from displacements [m] and velocities [m/s] of the particles, (n, 3) each.

        They are fitted by the splines in the least-squares sense; zero, or the solver's `v`, unless given.
        """
        X, m, n = self._X, len(self.stencil.nodes), self._X.shape[0]
        project = Projection(self._matrix[:n], self._mass, self.conditions)
        v = self._v if v is None else v
        start_u = X.new_zeros(m, 3) if u is None else project(u.to(X))
        start_w = X.new_zeros(m, 3) if v is None else project(v.to(X))
        if not self.inelastic:
            return NodalState(start_u, start_w, X.new_zeros(0, 3, 3), X.new_zeros(n, 0))
        h = X.new_zeros(n, self.model.history_size)
        for body in self.model.bodies:
            rest = self.model.materials[body.material].rest_history(body.stop - body.start).to(h)
            h[body.start : body.stop, : rest.shape[1]] = rest
        F = self._quadrature_deformation(start_u)
        return NodalState(start_u, start_w, F, h)

    def particles(self, state: NodalState) -> ParticleState:
        """Positions, velocities, velocity gradient and elastic deformation of the material points."""
        n = self._X.shape[0]
        both = torch.sparse.mm(self._constant("particles", self._matrix, state.u), torch.cat([state.u, state.w], dim=1))
        values, slopes = both[:n], both[n:].reshape(3, n, 6).permute(1, 2, 0)
        F = torch.eye(3).to(state.u) + slopes[:, :3]
        C = slopes[:, 3:] @ torch.linalg.inv(F)
        return ParticleState(
            self._X.to(state.u) + values[:, :3],
            values[:, 3:],
            C,
            state.F if self.inelastic else F,
            state.h,
            t=state.t,
        )

    def follow(self, points: Sequence[Sequence[float]] | Tensor) -> Callable[[NodalState], Tensor]:
        """A function from a state to the positions [m] of material points given in the reference configuration."""
        at = torch.as_tensor(points, dtype=torch.float64).reshape(-1, 3)
        matrix = to_torch(value_matrix(self.stencil, at.numpy()), self._X)
        rest = at.to(self._X)
        return lambda state: rest + torch.sparse.mm(matrix, state.u)

    def step(self, state: NodalState, control: Control | None, dt: float) -> NodalState:
        """One substep of `dt` [s]."""
        return self.advance(state, control, dt, 1)

    def advance(
        self, state: NodalState, control: Control | None, dt: float, substeps: int, *, keep: bool = False
    ) -> NodalState:
        """`substeps` substeps as one differentiable segment, with constant clamp twists.

        Raises:
            RolloutFailure: the deformation became singular or not finite.
            GradientError: in backward, when a gradient is not finite.
        """
        control = control or self.model.control_at(state.t)
        inputs = self._inputs(state.u, control, dt)
        program = Substep(self._workspace(state.u), dt, state.t)
        now = {"u": state.u, "w": self._conform(state.u, state.w, inputs)}
        if not self.inelastic:
            out = run_segment(Stepwise(program), substeps, now, inputs, keep=keep)
            return state.replace(u=out["u"], w=out["w"], t=state.t + substeps * dt)
        order = torch.as_tensor(self.stencil.order, device=state.u.device)
        h = state.h if state.h.shape[1] else state.u.new_zeros(len(order), 1)
        out = run_segment(Stepwise(program), substeps, {**now, "F": state.F[order], "h": h[order]}, inputs, keep=keep)
        back = torch.argsort(order)
        h = out["h"][back] if state.h.shape[1] else state.h
        return NodalState(out["u"], out["w"], out["F"][back], h, t=state.t + substeps * dt)

    def stable_dt(self, state: NodalState) -> float:
        """Largest safe substep [s] at this state: wave speed and viscosity on this grid."""
        with torch.no_grad():
            u = state.u.detach().double()
            inputs = self._inputs(u, self.model.control_at(state.t), 0.0)
            now = {"u": u, "w": state.w.detach().double()}
            if self.inelastic:
                order = torch.as_tensor(self.stencil.order, device=u.device)
                h = state.h if state.h.shape[1] else u.new_zeros(len(order), 1)
                now |= {"F": state.F.detach().double()[order], "h": h.detach().double()[order]}
            found = Linearisation(self._workspace(u), self.conditions, self.nodal_mass, now, inputs)
            return SAFETY * found.limit() * min(relaxation_share(m) for m in self.model.materials)

    def energy(self, state: NodalState) -> dict[str, Tensor]:
        """Kinetic, elastic and potential energy [J] in float64; elastic only where every law has an energy."""
        u, w = state.u.double(), state.w.double()
        mass = self._constant("mass", self.nodal_mass[:, None], u)
        F = self._stress_deformation(state)
        elastic = u.new_zeros(())
        for body in self.model.bodies:
            rows = slice(body.start, body.stop)
            density = self.model.materials[body.material].energy(F[rows], h=state.h[rows].double())
            elastic = elastic + (self.model.vol0[rows].to(u) * density).sum()
        load = self.load(u, None)
        return {"kinetic": 0.5 * (mass * w * w).sum(), "elastic": elastic, "potential": -(load * u).sum()}

    def reaction(self, state: NodalState, dt: float, control: Control | None = None) -> Tensor:
        """Total force [N] of walls and clamps on the body, (3,), from the momentum balance of the next substep."""
        control = control or self.model.control_at(state.t)
        now = state.replace(w=self._conform(state.u, state.w, self._inputs(state.u, control, dt)))
        after = self.step(now, control, dt)
        gained = (self._constant("mass", self.nodal_mass[:, None], state.u) * (after.w - now.w)).sum(dim=0) / dt
        return gained - self.load(state.u, control).sum(dim=0)

    def _stress_deformation(self, state: NodalState) -> Tensor:
        """Elastic deformation from which the stress is taken, (n, 3, 3) in the particles' order, float64."""
        stencil, u = self.stencil, state.u.double()
        total = self._quadrature_deformation(u)
        F = state.F.double() if self.inelastic else total
        if not self.beta.any():
            return F
        order = torch.as_tensor(stencil.order, device=u.device)
        element = torch.as_tensor(stencil.element.astype(np.int64), device=u.device)
        J, vol0 = torch.linalg.det(total)[order], self.model.vol0.to(u)[order]
        zero = u.new_zeros(len(stencil.cells))
        J_bar = zero.index_add(0, element, vol0 * J) / zero.index_add(0, element, vol0)
        dim = self.model.grid.dim
        s = (J_bar[element] / J) ** (torch.as_tensor(self.beta, device=u.device)[element] / dim)
        s = s[torch.argsort(order)][:, None]
        live = torch.tensor([1.0, 1.0, 1.0 if dim == 3 else 0.0]).to(u)
        return (s * live + (1 - live))[:, :, None] * F

    def _quadrature_deformation(self, u: Tensor) -> Tensor:
        """F of the whole motion at the quadrature places, (n, 3, 3) in the particles' order."""
        n = self._X.shape[0]
        matrix = self._constant("quadrature", self._quadrature, u)
        slopes = torch.sparse.mm(matrix, u)[n:].reshape(3, n, 3).permute(1, 2, 0)
        return torch.eye(3).to(u) + slopes

    def load(self, like: Tensor, control: Control | None = None) -> Tensor:
        """Constant nodal forces [N], (m, 3): gravity on the lumped masses, and the point forces."""
        gravity = self.model.gravity
        if control is not None and control.acceleration is not None:
            gravity = gravity + control.acceleration.to(gravity)
        load = self._constant("mass", self.nodal_mass[:, None], gravity) * gravity
        if self.loads:
            force = torch.stack([torch.as_tensor(p.force, dtype=torch.float64) for p in self.loads])
            load = load + torch.sparse.mm(self._constant("loads", self._load_values.T, load), force.to(load))
        return load.to(like)

    def _inputs(self, like: Tensor, control: Control, dt: float) -> dict[str, Tensor]:
        inputs = {"load": self.load(like, control)}
        if self.model.colliders:
            spin = control.spin.double()
            zero = torch.zeros_like(spin[..., 0])
            x, y, z = spin.unbind(-1)
            skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
            eye = torch.eye(3, dtype=torch.float64, device=spin.device)
            inputs["turning"] = ((torch.linalg.matrix_exp(skew * dt) - eye) / dt if dt > 0 else skew).to(like)
            inputs |= {"position": control.position.to(like), "velocity": control.velocity.to(like)}
        else:
            inputs |= {"position": like.new_zeros(1, 3), "velocity": like.new_zeros(1, 3)}
            inputs["turning"] = like.new_zeros(1, 3, 3)
        return inputs | {f"theta_{b}": self.theta(b).to(like) for b in range(len(self.model.bodies))}

    def theta(self, index: int) -> Tensor:
        """Parameters of one body, (1, k), or per particle in the order of the elements."""
        body = self.model.bodies[index]
        theta = self.model.materials[body.material].theta()
        if theta.shape[0] == 1:
            return theta
        check_shape(f"parameters of '{body.name}'", theta, (body.stop - body.start, None))
        start, stop = (self.stencil.first[e] for e in self.stencil.spans[index])
        return theta[torch.as_tensor(self.stencil.order[start:stop] - body.start, device=theta.device)]

    def _conform(self, u: Tensor, w: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Nodal velocities that obey the conditions at the start of a segment."""
        c = self.conditions
        if not c.constrained:
            return w
        leader = self._constant("leader", c.leader, u)
        sign, out = self._constant("sign", c.sign, u), self._constant("drift", c.drift, u)
        if (c.collider >= 0).any():
            at = self._constant("collider", np.maximum(c.collider, 0), u)
            place = self._constant("rest", self.stencil.positions, u) + u
            arm = 0.5 * (place + place[leader]) - inputs["position"][at]
            V = inputs["velocity"][at] + (inputs["turning"][at] @ arm[:, :, None])[:, :, 0]
            out = out + self._constant("clamped", 1.0 * (c.collider >= 0)[:, None], u) * (1.0 - sign) * V
        return sign * w[leader] + out

    def _constant(self, name: str, value: Any, like: Tensor) -> Tensor:
        """A constant matrix or array as a tensor, made once per precision and device."""
        key = (name, like.dtype, like.device)
        if key not in self._tensors:
            if sparse.issparse(value):
                self._tensors[key] = to_torch(value, like)
            else:
                made = torch.as_tensor(value, device=like.device)
                self._tensors[key] = made.to(like.dtype) if made.is_floating_point() else made
        return self._tensors[key]

    def _workspace(self, like: Tensor) -> Workspace:
        key = (like.dtype, like.device)
        if key not in self._cache:
            self._cache[key] = Workspace(
                self.model, self.stencil, self.conditions, self.nodal_mass, like, beta=self.beta
            )
        return self._cache[key]
