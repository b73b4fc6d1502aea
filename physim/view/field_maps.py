"""Maps of a field whose weights were stepped, and of what is left of its equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physim.errors import InputError
from physim.scene.build import build
from physim.scene.loader import load_scene
from physim.scene.resolved import RESOLVED
from physim.scene.run import FRAMES, field_state
from physim.sim.state import FieldState
from physim.solvers.insr.body import Body
from physim.solvers.insr.flow import Flow, vorticity
from physim.solvers.insr.jets import terms
from physim.solvers.insr.solver import SolverInsr
from physim.view.plots import write_figure

FILE = "maps.png"
DECADES = 1e-4
"""Share of the largest residual below which colours do not change."""


@dataclass(frozen=True)
class Map:
    """One quantity at places.

    Attributes:
        title: with unit.
        values: from a state and places, (n, dim), to numbers, (n,).
        colours: a colour map.
        logarithmic: colours spread by powers of ten.
        middle: value of the middle colour.
    """

    title: str
    values: Callable[[FieldState, torch.Tensor], torch.Tensor]
    colours: str = "viridis"
    logarithmic: bool = False
    middle: float | None = None


def maps_of(folder: str | Path, out: str | Path | None = None, *, across: int = 120) -> Path:
    """Draw first, middle and last frame of a run with `solver: insr`; returns the picture's path.

    The field is asked at a fine grid of places, of a body at rest, for a body in 3D in its middle plane.

    Args:
        folder: a run folder.
        out: file to write; `maps.png` in the folder unless given.
        across: places along the longer side.

    Raises:
        InputError: not a run folder, or one of another solver.
    """
    from safetensors.numpy import load_file

    folder = Path(folder)
    files = sorted((folder / FRAMES).glob("*.safetensors"))
    if not (folder / RESOLVED).is_file() or not files:
        raise InputError(f"{folder}: not a run folder: it has no {RESOLVED} or no frames. `physim run` makes one.")
    scene = load_scene(folder / RESOLVED)
    if scene.spec.solver != "insr":
        raise InputError(f"{folder}: maps are of fields: `solver: insr`, not `{scene.spec.solver}`. Leave --maps out.")
    solver = build(scene).solver
    assert isinstance(solver, SolverInsr)
    chosen = [files[k] for k in sorted({0, len(files) // 2, len(files) - 1})]
    frames = [load_file(file) for file in chosen]
    if "weights" not in frames[0]:
        raise InputError(
            f"{folder}: its frames hold no fields: it is of an earlier version. `physim run` makes a new one."
        )
    states = [field_state(frame) for frame in frames]
    with torch.no_grad():
        return write_figure(_figure(solver, states, across), Path(out) if out is not None else folder / FILE)


def _maps(solver: SolverInsr) -> list[Map]:
    elastic = isinstance(solver.problem, Body)
    left = Map("out of balance [-]" if elastic else "residual [-]", solver.residual, "magma", logarithmic=True)
    if elastic:
        moved = Map("displacement [m]", lambda s, x: solver.carried(s, x).norm(dim=1))
        return [moved, Map("volume ratio J", lambda s, x: _volume(solver, s, x), "RdBu", middle=1.0), left]
    if not isinstance(solver.problem, Flow):
        return [Map("value", lambda s, x: solver.carried(s, x)[:, 0]), left]
    second = terms(2, 2).indices
    spin = Map("vorticity [1/s]", lambda s, x: vorticity(solver.sample(s, x, second), second), "RdBu", middle=0.0)
    return [Map("speed [m/s]", lambda s, x: solver.carried(s, x).norm(dim=1)), spin, left]


def _volume(solver: SolverInsr, state: FieldState, x: torch.Tensor) -> torch.Tensor:
    body = solver.problem
    assert isinstance(body, Body)
    return torch.linalg.det(body.deformation(solver.sample(state, x, body.wanted)))


def _figure(solver: SolverInsr, states: list[FieldState], across: int) -> Any:
    from matplotlib.figure import Figure

    box, maps = solver.box, _maps(solver)
    size = np.asarray(box.size)[:2]
    counts = [max(2, round(across * s / size.max())) for s in size]
    corners = zip(box.lower[:2], box.upper[:2], counts, strict=True)
    axes = [torch.linspace(low, high, n, dtype=torch.float64) for low, high, n in corners]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)
    if box.dim == 3:
        x = torch.cat([x, x.new_full((len(x), 1), 0.5 * (box.lower[2] + box.upper[2]))], dim=1)
    states_at = [_places(solver, state, x) for state in states]
    everywhere = torch.cat(states_at)
    low, high = everywhere.min(dim=0).values.numpy(), everywhere.max(dim=0).values.numpy()
    tall = float((high - low)[1] / (high - low)[0])
    figure = Figure(figsize=(3.2 * len(states) + 1.0, (3.2 * tall + 0.4) * len(maps)), layout="constrained")
    panels = figure.subplots(len(maps), len(states), squeeze=False)
    for row, shown in zip(panels, maps, strict=True):
        found = [_asked(shown, state, x) for state in states]
        spread, drawn = _spread(shown, np.concatenate([v for v in found if v is not None] or [np.ones(1)])), None
        for panel, values, places, state in zip(row, found, states_at, states, strict=True):
            panel.set(xticks=[], yticks=[], aspect="equal", title=f"t = {state.t:.4g} s")
            panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            if values is None:
                panel.text(0.5, 0.5, "no step yet", ha="center", va="center", transform=panel.transAxes)
                continue
            grid = [places[:, a].reshape(counts).numpy() for a in range(2)]
            drawn = panel.pcolormesh(*grid, values.reshape(counts), norm=spread, cmap=shown.colours, shading="gouraud")
        if drawn is not None:
            figure.colorbar(drawn, ax=list(row), label=shown.title, shrink=0.9)
    return figure


def _places(solver: SolverInsr, state: FieldState, x: torch.Tensor) -> torch.Tensor:
    """Where points at rest at `x` are in the plane of the picture [m], (n, 2)."""
    return x[:, :2] + solver.carried(state, x)[:, :2] if isinstance(solver.problem, Body) else x[:, :2]


def _spread(shown: Map, values: np.ndarray[Any, Any]) -> Any:
    """How values become colours."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    if shown.logarithmic:
        high = high or 1.0
        return LogNorm(max(low, DECADES * high), high, clip=True)
    if shown.middle is not None:
        reach = max(shown.middle - low, high - shown.middle)
        low, high = shown.middle - reach, shown.middle + reach
    return Normalize(low, high)


def _asked(shown: Map, state: FieldState, x: torch.Tensor) -> np.ndarray[Any, Any] | None:
    """None where a state does not tell."""
    try:
        return shown.values(state, x).numpy()
    except InputError:
        return None
