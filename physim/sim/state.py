"""What changes during a simulation, and what may be chosen at one time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.checks import check_shape


@dataclass(frozen=True)
class ParticleState:
    """Material points at one time; all tensors share one dtype and one device.

    Attributes:
        x: positions [m], (n, 3).
        v: velocities [m/s], (n, 3).
        C: APIC affine velocity [1/s], (n, 3, 3).
        F: elastic deformation gradient [-], (n, 3, 3).
        h: law history, components named by the law, (n, k); k may be 0.
        t: time [s].
    """

    x: Tensor
    v: Tensor
    C: Tensor
    F: Tensor
    h: Tensor
    t: float = 0.0

    @staticmethod
    def at_rest(x: Tensor, *, v: Tensor | None = None, h: Tensor | None = None) -> ParticleState:
        """Undeformed particles at `x` [m], (n, 3), with velocity `v` [m/s] (zero unless given)."""
        check_shape("x", x, (None, 3))
        n = x.shape[0]
        identity = torch.eye(3, dtype=x.dtype, device=x.device)
        return ParticleState(
            x=x,
            v=torch.zeros_like(x) if v is None else v,
            C=x.new_zeros(n, 3, 3),
            F=identity.repeat(n, 1, 1),
            h=x.new_zeros(n, 0) if h is None else h,
        )

    def replace(self, **changes: Tensor | float) -> ParticleState:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def detach(self) -> ParticleState:
        """The same numbers outside any autograd graph."""
        return ParticleState(*(getattr(self, f).detach() for f in ("x", "v", "C", "F", "h")), t=self.t)

    def bytes(self) -> int:
        """Memory of one state [bytes]."""
        return sum(a.numel() * a.element_size() for a in (self.x, self.v, self.C, self.F, self.h))


@dataclass(frozen=True)
class NodalState:
    """A total-Lagrangian grid at one time: the nodes carry the motion, the material points the history.

    Attributes:
        u: nodal displacement coefficients [m], (m, 3).
        w: nodal velocity coefficients [m/s], (m, 3).
        F: elastic deformation gradient at the material points [-], (n, 3, 3).
        h: law history at the material points, (n, k).
        t: time [s].
    """

    u: Tensor
    w: Tensor
    F: Tensor
    h: Tensor
    t: float = 0.0

    def replace(self, **changes: Tensor | float) -> NodalState:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def bytes(self) -> int:
        """Memory of one state [bytes]."""
        return sum(a.numel() * a.element_size() for a in (self.u, self.w, self.F, self.h))


@dataclass(frozen=True)
class FieldState:
    """A function of space at one time, by the weights of the field that represents it.

    Attributes:
        weights: of the field, (p,), float64.
        before: those one step earlier, (p,); the same at the start. Where the next step begins to look, and for
            bodies the velocity.
        t: time [s].
        missed: root mean square by which the last step missed its target where it was compared: of the field, for a
            body of its scaled strain; by which the start missed elsewhere.
        dt: the last step [s]; 0 at the start.
        defect: what the last step left of its equation at points other than those compared, over the equation's terms;
            of a body's energy, over its parts.
        terms: root mean square of the equation's terms at the start, by which a flow that has come to rest is judged.
    """

    weights: Tensor
    before: Tensor
    t: float = 0.0
    missed: float = 0.0
    dt: float = 0.0
    defect: float = 0.0
    terms: float = 0.0

    def replace(self, **changes: Tensor | float) -> FieldState:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def bytes(self) -> int:
        """Memory of one state [bytes]."""
        return sum(a.numel() * a.element_size() for a in (self.weights, self.before))


@dataclass(frozen=True)
class Control:
    """Poses and twists of the colliders, and a body force, at one time.

    Attributes:
        position: collider origins [m], (c, 3).
        rotation: collider frame to world, (c, 3, 3).
        velocity: velocity of the collider origins [m/s], (c, 3).
        spin: angular velocities [rad/s], (c, 3).
        acceleration: extra uniform body acceleration [m/s^2], (3,), or None.
    """

    position: Tensor
    rotation: Tensor
    velocity: Tensor
    spin: Tensor
    acceleration: Tensor | None = None

    def moved_on(self, time: float) -> Control:
        """The control `time` [s] later at constant velocities and spins."""
        if time == 0.0:
            return self
        zero = torch.zeros_like(self.spin[..., 0])
        x, y, z = self.spin.unbind(-1)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*self.spin.shape, 3)
        turn = torch.linalg.matrix_exp(time * skew)
        return dataclasses.replace(self, position=self.position + time * self.velocity, rotation=turn @ self.rotation)
