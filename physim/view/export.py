"""Recordings for other programs: VTK series for ParaView, PLY point clouds for most others."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from physim.checks import check_finite
from physim.errors import InputError
from physim.view.coloring import color_by
from physim.view.files import replacing
from physim.view.progress import track
from physim.view.recording import Recording, as_array


def write_vtk(path: str | Path, recording: Recording, *, show_progress: bool = True) -> Path:
    """Write particles and their scalars for ParaView.

    Args:
        path: `.pvd` writes a time series (the list, and one .vtp per frame in a folder beside it); `.vtp` and
            `.vtu` write the only frame of a recording.
        recording: particles over time.
        show_progress: whether to show a bar after two seconds.

    Returns:
        The file to open.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind in (".vtp", ".vtu"):
        if len(recording.frames) != 1:
            raise InputError(f"'{path}': holds one frame, the recording has {len(recording.frames)}; write a .pvd.")
        _write_frame(path, recording, 0)
        return path
    if kind != ".pvd":
        raise InputError(f"'{path}': the name must end in .pvd (series), .vtp or .vtu (one frame).")
    lines = []
    folder = path.with_suffix("")
    digits = max(4, len(str(len(recording.frames))))
    for k in track(range(len(recording.frames)), f"writing {path.name}", show=show_progress):
        name = f"{folder.name}_{k:0{digits}d}.vtp"
        _write_frame(folder / name, recording, k)
        file = quoteattr(f"{folder.name}/{name}")
        lines.append(f'    <DataSet timestep="{float(recording.times[k])!r}" part="0" file={file}/>')
    head = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1">\n  <Collection>\n'
    with replacing(path) as temporary:  # last, so that the list never names a file that is not there
        temporary.write_text(head + "\n".join(lines) + "\n  </Collection>\n</VTKFile>\n", encoding="utf-8")
    return path


def write_ply(path: str | Path, positions: Any, *, color: str | None = None, **scalars: Any) -> Path:
    """Write one point cloud as binary PLY with colours and scalars per point.

    Args:
        path: file name, ending in .ply.
        positions: positions [m], (n, 3).
        color: scalar or colour for the points' colours, see `color_by`; no colours unless given.
        **scalars: values per point, (n,).
    """
    path = Path(path)
    if path.suffix.lower() != ".ply":
        raise InputError(f"'{path}': the name must end in .ply.")
    points = as_array(positions)
    if points.ndim != 2:
        raise InputError(f"positions: expected shape (n, 3) [m], got {points.shape}.")
    recording = Recording(points, scalars=scalars, spacing=1.0)
    for name in scalars:
        if name in ("x", "y", "z", "red", "green", "blue") or not name.isidentifier():
            raise InputError(f"scalar '{name}': this name cannot be used in a PLY file.")
    columns = [("x", "<f4", "float"), ("y", "<f4", "float"), ("z", "<f4", "float")]
    columns += [(name, "<f4", "float") for name in scalars]
    if color is not None:
        columns += [(name, "u1", "uchar") for name in ("red", "green", "blue")]
    table = np.zeros(recording.n, dtype=[(name, kind) for name, kind, _ in columns])
    for axis, name in enumerate("xyz"):
        table[name] = recording.frames[0][:, axis]
    for name in scalars:
        table[name] = recording.scalars[name][0]
    if color is not None:
        rgb = color_by(recording, color).of(0)
        for channel, name in enumerate(("red", "green", "blue")):
            table[name] = rgb[:, channel]
    properties = "\n".join(f"property {text} {name}" for name, _, text in columns)
    head = f"ply\nformat binary_little_endian 1.0\ncomment positions in metres\nelement vertex {recording.n}\n"
    with replacing(path) as temporary:
        temporary.write_bytes(f"{head}{properties}\nend_header\n".encode("ascii") + table.tobytes())
    return path


def _write_frame(path: Path, recording: Recording, frame: int) -> None:
    """One frame as .vtp or .vtu, one vertex cell per particle."""
    import pyvista as pv

    cloud: Any = pv.PolyData(np.ascontiguousarray(recording.frames[frame]))
    for name, values in recording.scalars.items():
        check_finite(f"scalar '{name}'", values[frame])
        cloud.point_data[name] = np.ascontiguousarray(values[frame])
    if path.suffix.lower() == ".vtu":
        cloud = cloud.cast_to_unstructured_grid()
    with replacing(path) as temporary:
        cloud.save(temporary, binary=True)
