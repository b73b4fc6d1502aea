"""One total-Lagrangian substep and its adjoint as prebuilt launches, and the memory they work in."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor

from physim.bridge import Arrays, Probe, precision_of
from physim.laws.material import Material
from physim.numeric import Precision, kernel
from physim.sim.model import Model
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.solid import kernels
from physim.solvers.solid.boundary import Conditions
from physim.solvers.solid.stencil import Stencil

_FAILURES = (Status.NONFINITE, Status.INVERTED, Status.NONFINITE)
_NODE_FAILURE = 2
_NEVER = np.iinfo(np.int64).max


@cache
def grid_kernels(precision: Precision, dim: int, rate: bool, bar: bool, motion: bool) -> dict[str, wp.Kernel]:
    """The stages that know no law, and their adjoints, for one set of features."""
    module = f"physim_solid_{dim}d_{int(rate)}{int(bar)}{int(motion)}"
    bound = {"LAYERS": 3 if dim == 3 else 1, "DIM": dim, "RATE": int(rate), "BAR": int(bar), "MOTION": int(motion)}
    bound |= {"SHARE": wp.constant(precision.real(1.0 / dim))}
    stages = (
        kernels.drift,
        kernels.gather,
        kernels.spread,
        kernels.kick,
        kernels.kick_adjoint,
        kernels.spread_adjoint,
        kernels.gather_adjoint,
        kernels.drift_adjoint,
    )
    return {stage.__name__: kernel(stage, precision, module=module, differentiable=False, **bound) for stage in stages}


def law_kernels(material: Material, precision: Precision, dim: int, rate: bool, bar: bool) -> dict[str, wp.Kernel]:
    """Stress and return-mapping kernels of one material's composition."""
    size, history = len(material.names), material.history_size
    bound = {
        "params": precision.vector(size),
        "history": precision.vector(max(1, history)),
        "PARAMS": size,
        "HISTORY": history,
        "DIM": dim,
        "RATE": int(rate),
        "BAR": int(bar),
        "SHARE": wp.constant(precision.real(1.0 / dim)),
    }
    module = f"physim_solid_law_{dim}d_{int(rate)}{int(bar)}_{material.composition}"
    stress_of, project_of = material.stress_function(precision), material.project_function(precision)
    return {
        "stress": kernel(kernels.stress, precision, module=module, stress_of=stress_of, **bound),
        "project": kernel(kernels.project, precision, module=module, project_of=project_of, **bound),
    }


class Workspace:
    """Kernels, constant arrays and scratch memory of one model in one precision on one device."""

    def __init__(
        self, model: Model, stencil: Stencil, conditions: Conditions, mass: np.ndarray, like: Tensor, *, bar: bool
    ) -> None:
        wp.init()
        p = self.precision = precision_of(like)
        self.device = wp.device_from_torch(like.device)
        self.model, self.stencil = model, stencil
        dim = model.grid.dim
        self.inelastic = any(m.inelastic is not None for m in model.materials)
        self.rate = self.inelastic or any(m.viscous is not None for m in model.materials)
        motion = bool((conditions.collider >= 0).any())
        self.kernels = grid_kernels(p, dim, self.rate, bar, motion)
        self.laws = [law_kernels(m, p, dim, self.rate, bar) for m in model.materials]
        self.elements, self.nodes, self.n = len(stencil.rows), len(stencil.nodes), len(stencil.order)
        self.groups = len(conditions.first) - 1
        self.c = self._constants(conditions, mass)
        self.scratch = self._points()
        self.scratch["block"] = self._blocks()
        self._adjoint: Arrays | None = None
        self.status = wp.full(len(_FAILURES), value=_NEVER, dtype=wp.int64, device=self.device)

    def _constants(self, conditions: Conditions, mass: np.ndarray) -> Arrays:
        p, stencil = self.precision, self.stencil
        node_first, node_places = stencil.node_lists()
        vol0 = self.model.vol0.detach().cpu().double().numpy()[stencil.order]
        floats = {"weights": (stencil.weights, p.real), "vol0": (vol0, p.real)}
        floats |= {"sign": (conditions.sign, p.vec3), "held": (conditions.drift, p.vec3)}
        floats |= {"rest": (stencil.positions, p.vec3), "inverse_mass": (conditions.lumped(mass), p.vec3)}
        ints = {"rows": stencil.rows, "first": stencil.first, "order": stencil.order, "element": stencil.element}
        ints |= {"node_first": node_first, "node_places": node_places, "group_first": conditions.first}
        ints |= {"members": conditions.members, "clamp": conditions.collider}
        found = {n: wp.array(a, dtype=t, device=self.device) for n, (a, t) in floats.items()}
        return found | {n: wp.array(a.astype(np.int32), dtype=wp.int32, device=self.device) for n, a in ints.items()}

    def _points(self) -> Arrays:
        p, rates = self.precision, self.n if self.rate else 1
        return {
            "F": wp.zeros(self.n, dtype=p.mat33, device=self.device),
            "G": wp.zeros(rates, dtype=p.mat33, device=self.device),
            "tau": wp.zeros(self.n, dtype=p.mat33, device=self.device),
            "J_bar": wp.zeros(self.elements, dtype=p.real, device=self.device),
        }

    def _blocks(self) -> wp.array:
        return wp.zeros((self.elements, 9 * self.stencil.layers), dtype=self.precision.vec3, device=self.device)

    @property
    def adjoint(self) -> Arrays:
        """Adjoint scratch, made when a backward pass first needs it."""
        if self._adjoint is None:
            self._adjoint = self._points()
            self._adjoint["gamma"] = wp.zeros(self.nodes, dtype=self.precision.vec3, device=self.device)
            self._adjoint["block_q"] = self._blocks()
            self._adjoint["block_w"] = self._blocks() if self.rate else self._adjoint["block_q"]
        return self._adjoint

    def node_particle(self, node: int) -> int:
        """A particle near a node, for messages."""
        e = int(np.flatnonzero((self.stencil.node_table() == node).any(axis=1))[0])
        return int(self.stencil.order[self.stencil.first[e]])


class _Launch:
    """A launch built once, whose changing arguments are replaced by name."""

    def __init__(
        self, kernel: wp.Kernel, dim: int, device: Any, values: dict[str, Any], adjoints: Arrays | None = None
    ) -> None:
        labels = [a.label for a in kernel.adj.args]
        self._at = {label: i for i, label in enumerate(labels)}
        options: dict[str, Any] = {"device": device, "record_tape": False, "record_cmd": True}
        if adjoints is not None:
            options |= {"adj_inputs": [adjoints.get(label) for label in labels], "adjoint": True}
        self._command = wp.launch(kernel, dim, inputs=[values[label] for label in labels], **options)

    def set(self, adjoint: bool = False, **values: Any) -> None:
        """Replace arguments (or with `adjoint`, their adjoints)."""
        for label, value in values.items():
            self._command.set_param_at_index(self._at[label], value, adjoint)

    def __call__(self) -> None:
        self._command.launch()


class Substep:
    """One substep and its adjoint on Warp arrays: the `Program` that the bridge differentiates."""

    def __init__(self, work: Workspace, dt: float, t: float) -> None:
        p = work.precision
        self.work, self.t, self.dt = work, t, dt
        self.state_types = {"u": p.vec3, "w": p.vec3}
        if work.inelastic:
            self.state_types |= {"F": p.mat33, "h": p.real}
        thetas = {f"theta_{i}": p.real for i in range(len(work.model.bodies))}
        motion = {"position": p.vec3, "velocity": p.vec3, "turning": p.mat33}
        self.input_types = {"load": p.vec3, **motion, **thetas}
        self._forward: dict[str, Any] | None = None
        self._reverse: dict[str, Any] | None = None
        self._adj_inputs: Arrays = {}

    def begin(self, inputs: Arrays) -> None:
        """Forget earlier failures and bind the inputs of this segment."""
        self.work.status.fill_(_NEVER)
        self._inputs, self._forward, self._reverse = inputs, None, None

    def finish(self) -> None:
        """Raise the first failure of the segment."""
        keys = self.work.status.numpy()
        found = [(int(key), kind) for kind, key in enumerate(keys) if key != _NEVER]
        if found:
            key, kind = min(found)
            substep, place = divmod(key, 2**32)
            particle = self.work.node_particle(place) if kind == _NODE_FAILURE else place
            raise RolloutFailure(
                _FAILURES[kind], substep=substep, particle=particle, t=self.t + substep * self.dt
            )

    def substep(self, state: Arrays, out: Arrays, inputs: Arrays, k: int) -> None:
        """Write substep `k`'s result into `out`."""
        stages = self._forward or self._build_forward(state, out)
        stages["drift"].set(u=state["u"], w=state["w"], q=out["u"])
        stages["drift"]()
        self._deform(stages, state, out, k)
        stages["spread"]()
        stages["kick"].set(q=out["u"], w=state["w"], w_new=out["w"], substep=k)
        stages["kick"]()

    def _deform(self, stages: dict[str, Any], state: Arrays, out: Arrays, k: int) -> None:
        """Deformation, elastic state and stress of substep `k`, from its displacement in `out`."""
        stages["gather"].set(q=out["u"], w=state["w"], substep=k)
        stages["gather"]()
        for launch in stages["project"]:
            launch.set(F_old=state["F"], h_old=state["h"], F_new=out["F"], h_new=out["h"])
            launch()
        for launch in stages["stress"]:
            if self.work.inelastic:
                launch.set(F_e=out["F"], h=out["h"])
            launch()

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
        self._deform(self._forward or self._build_forward(state, out), state, out, k)
        stages = self._reverse_stages(state, out, adj_state, adj_out, adj_inputs)
        scratch = self.work.adjoint

        def done(term: str, *names: str) -> None:
            if probe:
                probe(term, {n: scratch[n] for n in names})

        stages["kick"].set(q=out["u"], adj_w_new=adj_out["w"], adj_q=adj_out["u"], adj_w=adj_state["w"], substep=k)
        stages["kick"]()
        done("kick", "gamma")
        stages["spread"]()
        done("spread", "tau", "F")
        rates = ["G"] if self.work.rate else []
        for launch in stages["stress"]:
            if self.work.inelastic:
                launch.set(F_e=out["F"], h=out["h"])
                launch.set(adjoint=True, F_e=adj_out["F"], h=adj_out["h"])
            launch()
        done("stress", "F", *rates)
        for launch in stages["project"]:
            launch.set(F_old=state["F"], h_old=state["h"], F_new=out["F"], h_new=out["h"])
            launch.set(adjoint=True, F_old=adj_state["F"], h_old=adj_state["h"], F_new=adj_out["F"], h_new=adj_out["h"])
            launch()
        done("project", "F", *rates)
        self._to_nodes(stages, adj_state, adj_out)

    def linearise(self, state: Arrays, out: Arrays) -> None:
        """Deformation and stress at `state` (with dt = 0), the elastic deformation taken from `out`."""
        stages = self._build_forward(state, out)
        wp.copy(out["u"], state["u"])
        stages["gather"]()
        for launch in stages["stress"]:
            launch()

    def force_adjoint(self, gamma: Tensor, state: Arrays, out: Arrays, adj_state: Arrays, adj_out: Arrays) -> None:
        """Add the adjoints of u and w for the adjoint `gamma` of the nodal forces, plastic flow frozen."""
        zeros = {n: wp.zeros_like(a) for n, a in self._inputs.items()} if not self._adj_inputs else self._adj_inputs
        stages = self._reverse_stages(state, out, adj_state, adj_out, zeros)
        scratch = self.work.adjoint
        wp.copy(scratch["gamma"], wp.from_torch(gamma, dtype=self.work.precision.vec3))
        stages["spread"]()
        for launch in stages["stress"]:
            launch()
        if self.work.inelastic:
            # dF_e = dF F^-1 F_e while nothing flows.
            grad, F_e, F, total = (
                wp.to_torch(a) for a in (adj_out["F"], out["F"], self.work.scratch["F"], scratch["F"])
            )
            total += grad @ F_e.mT @ torch.linalg.inv(F).mT
        self._to_nodes(stages, adj_state, adj_out)

    def _to_nodes(self, stages: dict[str, Any], adj_state: Arrays, adj_out: Arrays) -> None:
        stages["gather"]()
        stages["drift"].set(adj_q=adj_out["u"], adj_u=adj_state["u"], adj_w=adj_state["w"])
        stages["drift"]()

    def _reverse_stages(
        self, state: Arrays, out: Arrays, adj_state: Arrays, adj_out: Arrays, adj_inputs: Arrays
    ) -> dict[str, Any]:
        """The reverse launches, rebuilt when the gradient of the inputs goes elsewhere."""
        if self._reverse is None or self._adj_inputs is not adj_inputs:
            self._reverse = self._build_reverse(state, out, adj_state, adj_out, adj_inputs)
            self._adj_inputs = adj_inputs
        return self._reverse

    def _build_forward(self, state: Arrays, out: Arrays) -> dict[str, Any]:
        work, p = self.work, self.work.precision
        values = {**work.c, **work.scratch, **self._inputs, "status": work.status}
        values |= {"u": state["u"], "w": state["w"], "q": out["u"], "w_new": out["w"]}
        values |= {"dt": p.real(self.dt), "substep": 0}
        sizes = {"drift": work.nodes, "gather": work.elements, "spread": work.elements, "kick": work.groups}
        flat = {"kick": {"block": work.scratch["block"].flatten()}}
        stages: dict[str, Any] = {
            name: _Launch(work.kernels[name], size, work.device, {**values, **flat.get(name, {})})
            for name, size in sizes.items()
        }
        stages |= self._laws(values, state, out)
        self._forward = stages
        return stages

    def _laws(self, values: dict, state: Arrays, out: Arrays, adjoints: dict | None = None) -> dict[str, list[_Launch]]:
        """Stress and projection of each body."""
        work = self.work
        stages: dict[str, list[_Launch]] = {"stress": [], "project": []}
        elastic, past = (out["F"], out["h"]) if work.inelastic else (work.scratch["F"], self._no_history())
        for index, (body, span) in enumerate(zip(work.model.bodies, work.stencil.spans, strict=True)):
            start, stop = (int(work.stencil.first[e]) for e in span)
            theta = f"theta_{index}"
            own = {
                **values, "theta": self._inputs[theta], "stride": int(self._inputs[theta].shape[0] > 1), "start": start,
                "F_e": elastic, "h": past,
            }  # fmt: skip
            grads = None if adjoints is None else {**adjoints, "theta": adjoints[theta]}
            if grads is not None and not work.inelastic:
                grads |= {"F_e": grads["F"]}
            stages["stress"].append(_Launch(work.laws[body.material]["stress"], stop - start, work.device, own, grads))
            if work.inelastic:
                own |= {"F_old": state["F"], "h_old": state["h"], "F_new": out["F"], "h_new": out["h"]}
                stages["project"].append(
                    _Launch(work.laws[body.material]["project"], stop - start, work.device, own, grads)
                )
        return stages

    def _build_reverse(
        self, state: Arrays, out: Arrays, adj_state: Arrays, adj_out: Arrays, adj_inputs: Arrays
    ) -> dict[str, Any]:
        work, p = self.work, self.work.precision
        scratch = work.adjoint
        values = {**work.c, **work.scratch, **self._inputs, "q": out["u"], "dt": p.real(self.dt), "substep": 0}
        values |= {f"adj_{n}": scratch[n] for n in ("F", "G", "tau", "J_bar")}
        values |= {f"adj_{n}": adj_inputs[n] for n in ("load", "position", "velocity", "turning")}
        values |= {"adj_u": adj_state["u"], "adj_w": adj_state["w"], "adj_q": adj_out["u"], "adj_w_new": adj_out["w"]}
        values |= {n: scratch[n] for n in ("gamma", "block_q", "block_w")}
        sizes = {"kick": work.groups, "spread": work.elements, "gather": work.elements, "drift": work.nodes}
        flat = {"drift": {n: scratch[n].flatten() for n in ("block_q", "block_w")}}
        stages: dict[str, Any] = {
            name: _Launch(work.kernels[f"{name}_adjoint"], size, work.device, {**values, **flat.get(name, {})})
            for name, size in sizes.items()
        }
        adjoints = {n: scratch[n] for n in ("F", "G", "tau", "J_bar")} | dict(adj_inputs)
        stages |= self._laws(values, state, out, adjoints)
        return stages

    def _no_history(self) -> wp.array:
        return wp.zeros((self.work.n, 1), dtype=self.work.precision.real, device=self.work.device)
