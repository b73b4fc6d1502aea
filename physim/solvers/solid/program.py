"""One total-Lagrangian substep and its adjoint: the order of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.bridge import Arrays, Probe, Replay
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.solid.launches import MOTION, NEVER, Stages, Workspace

_FAILURES = (Status.NONFINITE, Status.INVERTED, Status.NONFINITE)
_NODE_FAILURE = 2


class Substep:
    """One substep and its adjoint on Warp arrays: the `Program` that the bridge differentiates."""

    def __init__(self, work: Workspace, dt: float, t: float) -> None:
        p = work.precision
        self.work, self.t, self.dt = work, t, dt
        history = {"F": p.mat33, "h": p.real} if work.inelastic else {}
        self.state_types: Mapping[str, Any] = {"u": p.vec3, "w": p.vec3, **history}
        laws = [work.model.materials[body.material].laws for body in work.model.bodies]
        thetas = {f"theta_{i}": p.vector(own.width) for i, own in enumerate(laws)}
        motion = {n: p.mat33 if n == "turning" else p.vec3 for n in MOTION}
        self.input_types: Mapping[str, Any] = {"load": p.vec3, **motion, **thetas}
        self._inputs: Arrays = {}
        self._forward: Stages | None = None
        self._reverse: tuple[Arrays, Stages] | None = None

    def begin(self, inputs: Arrays) -> None:
        """Forget earlier failures and bind the inputs of this segment."""
        self.work.status.fill_(NEVER)
        self._inputs, self._forward, self._reverse = inputs, None, None

    def finish(self, last: Arrays, count: int, replay: Replay) -> None:
        """Raise the first failure of the segment."""
        keys = self.work.status.numpy()
        found = [(int(key), kind) for kind, key in enumerate(keys) if key != NEVER]
        if found:
            key, kind = min(found)
            substep, place = divmod(key, 2**32)
            particle = self.work.node_particle(place) if kind == _NODE_FAILURE else place
            raise RolloutFailure(_FAILURES[kind], substep=substep, particle=particle, t=self.t + substep * self.dt)

    def substep(self, state: Arrays, out: Arrays, inputs: Arrays, k: int) -> None:
        """Write substep `k`'s result into `out`."""
        stages = self._bound(state, out)
        stages["drift"][0].set(u=state["u"], w=state["w"], q=out["u"])
        stages.run("drift")
        self._deform(stages, state, out, k)
        stages.run("spread")
        stages["kick"][0].set(q=out["u"], w=state["w"], w_new=out["w"], substep=k)
        stages.run("kick")

    def _bound(self, state: Arrays, out: Arrays) -> Stages:
        if self._forward is None:
            self._forward = self.work.forward(state, out, self._inputs, self.dt)
        return self._forward

    def _deform(self, stages: Stages, state: Arrays, out: Arrays, k: int) -> None:
        """Deformation, elastic state and stress of substep `k`, from its displacement in `out`."""
        stages["gather"][0].set(q=out["u"], w=state["w"], substep=k)
        stages.run("gather")
        if self.work.inelastic:
            for launch in stages["project"]:
                launch.set(F_old=state["F"], h_old=state["h"], F_new=out["F"], h_new=out["h"])
            for launch in stages["stress"]:
                launch.set(F_e=out["F"], h=out["h"])
            stages.run("project")
        stages.run("stress")

    def substep_adjoint(
        self,
        state: Arrays,
        out: Arrays,
        inputs: Arrays,
        adj_state: Arrays,
        adj_out: Arrays,
        adj_inputs: Arrays,
        k: int,
        probe: Probe | None,
    ) -> None:
        """Add the vector-Jacobian products of substep `k`, from its kept start and end."""
        self._deform(self._bound(state, out), state, out, k)
        stages = self._bound_reverse(state, out, adj_state, adj_out, adj_inputs)
        scratch = self.work.adjoint

        def done(term: str, *names: str) -> None:
            if probe:
                probe(term, {n: scratch[n] for n in names})

        stages["kick"][0].set(q=out["u"], adj_w_new=adj_out["w"], adj_q=adj_out["u"], adj_w=adj_state["w"], substep=k)
        stages.run("kick")
        done("kick", "gamma")
        stages.run("spread")
        done("spread", "tau", "F")
        if self.work.inelastic:
            for launch in stages["stress"]:
                launch.set(F_e=out["F"], h=out["h"])
                launch.set(adjoint=True, F_e=adj_out["F"], h=adj_out["h"])
            for launch in stages["project"]:
                launch.set(F_old=state["F"], h_old=state["h"], F_new=out["F"], h_new=out["h"])
                launch.set(adjoint=True, F_old=adj_state["F"], h_old=adj_state["h"])
                launch.set(adjoint=True, F_new=adj_out["F"], h_new=adj_out["h"])
        rates = ["G"] if self.work.rate else []
        stages.run("stress")
        done("stress", "F", *rates)
        stages.run("project")
        done("project", "F", *rates)
        self._to_nodes(stages, adj_state, adj_out)

    def linearise(self, state: Arrays, out: Arrays) -> None:
        """Deformation and stress at `state` (with dt = 0), the elastic deformation taken from `out`."""
        stages = self._bound(state, out)
        wp.copy(out["u"], state["u"])
        stages["gather"][0].set(q=out["u"], w=state["w"])
        stages.run("gather")
        if self.work.inelastic:
            for launch in stages["stress"]:
                launch.set(F_e=out["F"], h=out["h"])
        stages.run("stress")

    def force_adjoint(
        self,
        gamma: Tensor,
        state: Arrays,
        out: Arrays,
        adj_state: Arrays,
        adj_out: Arrays,
        adj_inputs: Arrays,
    ) -> None:
        """Add the adjoints of u and w for the adjoint `gamma` of the nodal forces, plastic flow frozen."""
        stages = self._bound_reverse(state, out, adj_state, adj_out, adj_inputs)
        scratch = self.work.adjoint
        wp.copy(scratch["gamma"], wp.from_torch(gamma, dtype=self.work.precision.vec3))
        stages.run("spread")
        if self.work.inelastic:
            for launch in stages["stress"]:
                launch.set(F_e=out["F"], h=out["h"])
                launch.set(adjoint=True, F_e=adj_out["F"], h=adj_out["h"])
        stages.run("stress")
        if self.work.inelastic:
            # dF_e = dF F^-1 F_e while nothing flows.
            grad, F_e, F, total = (
                wp.to_torch(a) for a in (adj_out["F"], out["F"], self.work.scratch["F"], scratch["F"])
            )
            total += grad @ F_e.mT @ torch.linalg.inv(F).mT
        self._to_nodes(stages, adj_state, adj_out)

    def _to_nodes(self, stages: Stages, adj_state: Arrays, adj_out: Arrays) -> None:
        stages.run("gather")
        stages["drift"][0].set(adj_q=adj_out["u"], adj_u=adj_state["u"], adj_w=adj_state["w"])
        stages.run("drift")

    def _bound_reverse(self, state: Arrays, out: Arrays, *adj: Any) -> Stages:
        """The reverse launches, bound again when the gradient of the inputs goes elsewhere."""
        if self._reverse is None or self._reverse[0] is not adj[2]:
            self._reverse = adj[2], self.work.reverse(state, out, self._inputs, self.dt, adj)
        return self._reverse[1]
