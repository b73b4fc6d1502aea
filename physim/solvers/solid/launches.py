"""The prebuilt kernel launches of a total-Lagrangian substep, and the memory they work in."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import warp as wp
from torch import Tensor

from physim.bridge import Arrays, precision_of
from physim.launch import Launch
from physim.laws.compose import Composition
from physim.numeric import Precision, kernel
from physim.sim.model import Model
from physim.solvers.solid import adjoints, kernels
from physim.solvers.solid.boundary import Conditions
from physim.solvers.solid.native import LANES, lane_weights, native_functions, row_weights
from physim.solvers.solid.stencil import Stencil

NEVER = np.iinfo(np.int64).max
_KINDS = 3
MOTION = ("position", "velocity", "turning")


@cache
def grid_kernels(precision: Precision, dim: int, rate: bool, bar: bool, motion: bool) -> dict[str, wp.Kernel]:
    """The stages that know no law, and their adjoints, for one set of features."""
    module = f"physim_solid_{dim}d_{int(rate)}{int(bar)}{int(motion)}"
    bound = {"DIM": dim, "RATE": int(rate), "BAR": int(bar), "MOTION": int(motion), "LANES": LANES}
    bound |= native_functions(precision, 3 if dim == 3 else 1)
    bound |= {"SHARE": wp.constant(precision.real(1.0 / dim))}
    stages = (
        kernels.drift,
        kernels.gather,
        kernels.spread,
        kernels.kick,
        adjoints.kick_adjoint,
        adjoints.spread_adjoint,
        adjoints.gather_adjoint,
        adjoints.drift_adjoint,
    )
    return {stage.__name__: kernel(stage, precision, module=module, differentiable=False, **bound) for stage in stages}


@cache
def law_kernels(laws: Composition, precision: Precision, dim: int, rate: bool, bar: bool) -> dict[str, wp.Kernel]:
    """Stress and return-mapping kernels of one composition; made once, so that other threads find them loaded."""
    bound = {
        "params": precision.vector(laws.width),
        "history": precision.vector(max(1, laws.history_size)),
        "HISTORY": laws.history_size,
        "DIM": dim,
        "RATE": int(rate),
        "BAR": int(bar),
        "SHARE": wp.constant(precision.real(1.0 / dim)),
    }
    module = f"physim_solid_law_{dim}d_{int(rate)}{int(bar)}_{laws.name}"
    stress_of, project_of = laws.stress_function(precision), laws.project_function(precision)
    return {
        "stress": kernel(kernels.stress, precision, module=module, stress_of=stress_of, **bound),
        "project": kernel(kernels.project, precision, module=module, project_of=project_of, **bound),
    }


class Stages(dict[str, list[Launch]]):
    """Launches by stage; a stage that depends on the law has one per body."""

    def set(self, **values: Any) -> None:
        """Replace arguments in every launch that has them."""
        for launches in self.values():
            for launch in launches:
                launch.set(**values)

    def run(self, stage: str) -> None:
        """Launch one stage."""
        for launch in self[stage]:
            launch()


class Workspace:
    """Kernels, constant arrays and scratch memory of one model in one precision on one device."""

    def __init__(
        self,
        model: Model,
        stencil: Stencil,
        conditions: Conditions,
        mass: np.ndarray,
        like: Tensor,
        *,
        beta: np.ndarray,
    ) -> None:
        wp.init()
        p = self.precision = precision_of(like)
        self.device = wp.device_from_torch(like.device)
        self.model, self.stencil = model, stencil
        dim = model.grid.dim
        self.inelastic = any(m.evolves for m in model.materials)
        self.rate = self.inelastic or any(m.viscous is not None for m in model.materials)
        motion, bar = bool((conditions.collider >= 0).any()), bool((beta > 0).any())
        self._kernels = grid_kernels(p, dim, self.rate, bar, motion)
        self._laws = [law_kernels(m.laws, p, dim, self.rate, bar) for m in model.materials]
        self.elements, self.nodes, self.n = len(stencil.rows), len(stencil.nodes), len(stencil.order)
        self._groups = len(conditions.first) - 1
        self._constants = self._constant_arrays(conditions, mass, beta)
        self.scratch = self._points()
        self.scratch |= {"P": wp.zeros(self.n, dtype=p.mat33, device=self.device), "block": self._blocks()}
        self.status = wp.full(_KINDS, value=NEVER, dtype=wp.int64, device=self.device)
        self._adjoint: Arrays | None = None
        self._forward: Stages | None = None
        self._reverse: Stages | None = None

    def _constant_arrays(self, conditions: Conditions, mass: np.ndarray, beta: np.ndarray) -> Arrays:
        p, stencil = self.precision, self.stencil
        node_first, node_places = stencil.node_lists()
        vol0 = self.model.vol0.detach().cpu().double().numpy()[stencil.order]
        lanes, blocks = lane_weights(stencil)
        floats = {"lanes": (lanes, p.real), "row_weights": (row_weights(stencil), p.real)}
        floats |= {"vol0": (vol0, p.real), "beta": (beta, p.real)}
        floats |= {"sign": (conditions.sign, p.vec3), "held": (conditions.drift, p.vec3)}
        floats |= {"rest": (stencil.positions, p.vec3), "inverse_mass": (conditions.lumped(mass), p.vec3)}
        ints = {
            "rows": stencil.rows,
            "first": stencil.first,
            "order": stencil.order,
            "element": stencil.element,
        }
        ints |= {"node_first": node_first, "node_places": node_places, "group_first": conditions.first}
        ints |= {"members": conditions.members, "clamp": conditions.collider, "blocks": blocks}
        found = {n: wp.array(a, dtype=t, device=self.device) for n, (a, t) in floats.items()}
        found |= {n: wp.array(a.astype(np.int32), dtype=wp.int32, device=self.device) for n, a in ints.items()}
        # Laws without history still have the argument.
        return found | {"no_history": wp.zeros((self.n, 1), dtype=p.real, device=self.device)}

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

    def forward(self, state: Arrays, out: Arrays, inputs: Arrays, dt: float) -> Stages:
        """The launches of a substep, with these inputs; states are bound again per substep."""
        if self._forward is None:
            values = {**self._constants, **self.scratch, **inputs, "status": self.status, "substep": 0}
            values |= {"u": state["u"], "w": state["w"], "q": out["u"], "w_new": out["w"]}
            values["dt"] = self.precision.real(dt)
            flat = {"kick": {"block": self.scratch["block"].flatten()}}
            sizes = {
                "drift": self.nodes,
                "gather": self.elements,
                "spread": self.elements,
                "kick": self._groups,
            }
            self._forward = self._build(sizes, "", values, flat, self._of_laws(values, state, out, None))
        self._bind(self._forward, inputs, dt)
        return self._forward

    def reverse(
        self, state: Arrays, out: Arrays, inputs: Arrays, dt: float, adj: tuple[Arrays, Arrays, Arrays]
    ) -> Stages:
        """The adjoint launches, with the adjoints of (state, out, inputs); those of states are bound again."""
        adj_state, adj_out, adj_inputs = adj
        grads = {n: self.adjoint[n] for n in ("F", "G", "tau", "J_bar")} | dict(adj_inputs)
        if self._reverse is None:
            values = {**self._constants, **self.scratch, **inputs, "q": out["u"], "substep": 0}
            values |= {n: self.adjoint[n] for n in ("gamma", "block_q", "block_w")} | {"dt": self.precision.real(dt)}
            values |= {f"adj_{n}": g for n, g in grads.items()}
            values |= {"adj_u": adj_state["u"], "adj_w": adj_state["w"]}
            values |= {"adj_q": adj_out["u"], "adj_w_new": adj_out["w"]}
            flat = {"drift": {n: self.adjoint[n].flatten() for n in ("block_q", "block_w")}}
            sizes = {
                "kick": self._groups,
                "spread": self.elements,
                "gather": self.elements,
                "drift": self.nodes,
            }
            self._reverse = self._build(sizes, "_adjoint", values, flat, self._of_laws(values, state, out, grads))
        self._bind(self._reverse, inputs, dt)
        self._reverse.set(**{f"adj_{n}": adj_inputs[n] for n in ("load", *MOTION)})
        for stage in ("stress", "project"):
            for index, launch in enumerate(self._reverse[stage]):
                launch.set(adjoint=True, theta=adj_inputs[f"theta_{index}"])
        return self._reverse

    def _build(self, sizes: dict[str, int], suffix: str, values: dict, flat: dict, laws: Stages) -> Stages:
        for name, size in sizes.items():
            own = {**values, **flat.get(name, {})}
            laws[name] = [Launch(self._kernels[name + suffix], size, self.device, own)]
        return laws

    def _bind(self, stages: Stages, inputs: Arrays, dt: float) -> None:
        stages.set(dt=dt, **{n: inputs[n] for n in ("load", *MOTION)})
        for stage in ("stress", "project"):
            for index, launch in enumerate(stages[stage]):
                theta = inputs[f"theta_{index}"]
                launch.set(theta=theta, stride=int(theta.shape[0] > 1))

    def _of_laws(self, values: dict, state: Arrays, out: Arrays, grads: dict | None) -> Stages:
        """Stress and projection of each body."""
        stages = Stages(stress=[], project=[])
        held = out["h"] if self.inelastic else self._constants["no_history"]
        for index, (body, span) in enumerate(zip(self.model.bodies, self.stencil.spans, strict=True)):
            start, stop = (int(self.stencil.first[e]) for e in span)
            own = {**values, "theta": values[f"theta_{index}"], "stride": 0, "start": start, "h": held}
            own |= {"F_e": out["F"] if self.inelastic else self.scratch["F"]}
            back = None
            if grads is not None:
                back = {**grads, "theta": grads[f"theta_{index}"]} | ({} if self.inelastic else {"F_e": grads["F"]})
            laws = self._laws[body.material]
            stages["stress"].append(Launch(laws["stress"], stop - start, self.device, own, back))
            if self.inelastic:
                own |= {"F_old": state["F"], "h_old": state["h"], "F_new": out["F"], "h_new": out["h"]}
                stages["project"].append(Launch(laws["project"], stop - start, self.device, own, back))
        return stages

    def node_particle(self, node: int) -> int:
        """A particle near a node, for messages."""
        e = int(np.flatnonzero((self.stencil.node_table() == node).any(axis=1))[0])
        return int(self.stencil.order[self.stencil.first[e]])
