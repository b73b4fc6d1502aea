"""Full states of all particles of a run in one safetensors file: written by a run, read to learn a law from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from physim.errors import InputError
from physim.scene.document import display
from physim.scene.rundir import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from physim.sim.state import ParticleState

FORMAT = "physim-states-1"
STATES = "states.safetensors"
SHAPES = {"x": (3,), "v": (3,), "C": (3, 3), "F": (3, 3)}
"""Of one particle in one frame; the history `h` has as many numbers as the law wants."""


@dataclass(frozen=True)
class States:
    """The states of all particles at equal intervals.

    Attributes:
        states: one after the other.
        vol0: volumes at rest [m^3], (n,).
        dt: substep [s] with which they were made.
        every: substeps between two states.
        title: of the scene that they are of.
        file: where they were read from; None where they were made.
    """

    states: tuple[ParticleState, ...]
    vol0: Tensor
    dt: float
    every: int
    title: str = ""
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.states)


def write_states(path: Path, found: States) -> Path:
    """Write all states to one file, whole or not at all."""
    import torch
    from safetensors.torch import save

    tensors = {n: torch.stack([getattr(s, n).detach().cpu() for s in found.states]) for n in (*SHAPES, "h")}
    tensors["t"] = torch.tensor([s.t for s in found.states], dtype=torch.float64)
    tensors["vol0"] = found.vol0.detach().cpu()
    words = {"format": FORMAT, "dt": repr(found.dt), "every": str(found.every), "title": found.title}
    write_atomic(path, save({n: t.contiguous() for n, t in tensors.items()}, metadata=words))
    return path


class StatesKeeper:
    """Keeps states on the disk one by one as they come, each whole, and joins them in the end.

    Args:
        path: of the file that they are joined to; until then they lie in a folder of its name without the ending.
        vol0: volumes at rest [m^3], (n,).
        dt: substep [s].
        every: substeps between two states.
        title: of the scene.
    """

    def __init__(self, path: Path, vol0: Tensor, dt: float, every: int, title: str) -> None:
        self.path, self.count = path, 0
        self._vol0, self._dt, self._every, self._title = vol0, dt, every, title

    def add(self, state: ParticleState) -> None:
        """Keep one more."""
        one = States((state,), self._vol0, self._dt, self._every, self._title)
        write_states(self.path.with_suffix("") / f"{self.count:06d}{self.path.suffix}", one)
        self.count += 1

    def join(self) -> str:
        """Join them; a sentence about how many there are, and where."""
        if self.count < 2:
            rmtree(self.path.with_suffix(""), ignore_errors=True)
            return "No state after the first was reached; none is kept."
        return f"The {self.count} states up to there are in {join_states(self.path.with_suffix(''))}."


def join_states(folder: str | Path) -> Path:
    """Join the states that a run left in a folder, one file each, to one file beside it, and remove the folder.

    A run does so when it ends, however it ends; this is for what is left after `kill -9`. One state at a time is in
    memory.

    Raises:
        InputError: no state lies there.
    """
    folder = Path(folder)
    parts = sorted(folder.glob("[0-9]*.safetensors"))
    if not parts:
        raise InputError(f"{display(folder)}: no states to join; expected the folder `states` of a run that was ended.")
    path = folder.with_name(folder.name + parts[0].suffix)
    write_atomic(path, _joined(parts))
    rmtree(folder)
    return path


def _joined(parts: Sequence[Path]) -> Iterator[bytes]:
    """A file of the states in several: the header, then tensor by tensor what each of them has of it."""
    from safetensors import safe_open

    with safe_open(str(parts[0]), framework="np") as first:
        header: dict[str, Any] = {"__metadata__": first.metadata()}
        of = {name: parts if name != "vol0" else parts[:1] for name in first.keys()}
        at = 0
        for name, files in of.items():
            one = first.get_tensor(name)
            size, rows = one.nbytes * len(files), one.shape[0] * len(files)
            kind = first.get_slice(name).get_dtype()
            header[name] = {"dtype": kind, "shape": [rows, *one.shape[1:]], "data_offsets": [at, at + size]}
            at += size
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    yield len(words).to_bytes(8, "little") + words
    for name, files in of.items():
        for file in files:
            with safe_open(str(file), framework="np") as part:
                yield part.get_tensor(name).tobytes()


def read_states(path: Path, *, particles: int | None = None, dt: float | None = None) -> States:
    """The states that `write_states` wrote.

    Args:
        path: a .safetensors file.
        particles: how many the scene has; any number unless given.
        dt: the scene's own substep [s]; any unless given.

    Raises:
        InputError: not such a file, or one that does not fit the scene.
    """
    from safetensors import SafetensorError, safe_open

    name = display(path)
    try:
        with safe_open(str(path), framework="pt") as stream:
            words = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{name}: cannot be read as safetensors ({error}); it may have been cut short.") from None
    if words.get("format") != FORMAT:
        raise InputError(
            f"{name}: no file of states (format {words.get('format')!r}, expected {FORMAT!r}); "
            "`physim run SCENE --states` writes one."
        )
    try:
        step, every = float(words["dt"]), int(words["every"])
    except (KeyError, ValueError):
        raise InputError(f"{name}: dt and every are missing or no numbers.") from None
    if not (0.0 < step < math.inf and every >= 1):
        raise InputError(f"{name}: dt = {step:g} s and every = {every}; expected a dt above 0 and every at least 1.")
    _check(name, tensors, particles)
    if dt is not None and abs(step - dt) > 1e-6 * dt:
        raise InputError(
            f"{name}: made with dt = {step:g} s, and the scene says dt = {dt:g} s; runs are compared substep for "
            "substep. Write `dt: auto`, which takes the file's, or make the states anew."
        )
    times = tensors["t"].double()
    gaps = times.diff()
    if not bool(((gaps - step * every).abs() <= 1e-6 * step * every + 1e-12).all()):
        raise InputError(f"{name}: its times are not {every} substeps of {step:g} s apart.")
    return States(_rows(tensors), tensors["vol0"], step, every, words.get("title", ""), path)


def _check(name: str, tensors: dict[str, Tensor], particles: int | None) -> None:
    """Raise `InputError` where tensors are missing, have other shapes, or hold what no state can."""
    import torch

    missing = [n for n in (*SHAPES, "h", "t", "vol0") if n not in tensors]
    if missing:
        raise InputError(f"{name}: {', '.join(missing)} missing.")
    for key, wanted in (("t", "frames"), ("vol0", "particles")):
        if tensors[key].ndim != 1 or len(tensors[key]) == 0:
            shape = tuple(tensors[key].shape)
            raise InputError(f"{name}: {key} has shape {shape}, expected one number for each of the {wanted}.")
    frames, n = len(tensors["t"]), len(tensors["vol0"])
    # A law may have any number of components of history, none among them.
    shapes = {**SHAPES, "h": (tensors["h"].shape[-1] if tensors["h"].ndim == 3 else 0,)}
    for key, tail in shapes.items():
        if tuple(tensors[key].shape) != (frames, n, *tail):
            raise InputError(f"{name}: {key} has shape {tuple(tensors[key].shape)}, expected {(frames, n, *tail)}.")
    if frames < 2:
        raise InputError(f"{name}: {frames} frame; a motion needs at least two.")
    if particles is not None and n != particles:
        raise InputError(
            f"{name}: {n} particles, and the bodies of the scene have {particles}; use the scene that they are of."
        )
    for key in (*shapes, "t", "vol0"):
        bad = (~torch.isfinite(tensors[key])).nonzero()
        if len(bad):
            place = f"frame {int(bad[0][0])}" + (f", particle {int(bad[0][1])}" if bad.shape[1] > 1 else "")
            raise InputError(f"{name}: {key} holds what is no finite number, first in {place}.")
    if not bool((tensors["vol0"] > 0).all()):
        raise InputError(f"{name}: vol0 of particle {int((tensors['vol0'] <= 0).nonzero()[0])} is not above 0.")
    turned = (torch.linalg.det(tensors["F"].double()) <= 0).nonzero()
    if len(turned):
        frame, particle = turned[0].tolist()
        raise InputError(f"{name}: F of particle {particle} in frame {frame} is turned inside out (det F <= 0).")


def _rows(tensors: dict[str, Any]) -> tuple[ParticleState, ...]:
    from physim.sim.state import ParticleState

    fields: Sequence[str] = (*SHAPES, "h")
    return tuple(
        ParticleState(**{n: tensors[n][i] for n in fields}, t=float(t)) for i, t in enumerate(tensors["t"].tolist())
    )
