"""Watertight triangle meshes as shapes."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from physim.errors import InputError
from physim.shapes.shape import Array, Shape, as_length, as_vector, rotation_matrix

if TYPE_CHECKING:
    import trimesh

# Outside these extents [m] a mesh is almost surely in other units than metres, but it may be meant.
_ODD_EXTENT = (1e-3, 10.0)
# Outside these it cannot be simulated in single precision next to anything else.
_ABSURD_EXTENT = (1e-6, 1e4)
# Distance from a face, as a share of the longest side, that is rounding.
_ON_FACE = 1e-10


@dataclass(frozen=True, eq=False)
class Mesh(Shape):
    """Solid inside a watertight triangle mesh: scaled, then turned about the file's origin, then moved.

    Args:
        source: path of a mesh file (STL, OBJ, PLY, OFF, GLB, ...) or a `trimesh.Trimesh`.
        scale: metres per unit of the file; 0.001 for a file in millimetres.
        translation: shift [m], (3,).
        rotation: rotation vector, axis times angle [rad], (3,).
        cut: a point [m] and a normal, (3,) each, in the scaled file's axes: what lies before that plane is cut away.

    Raises:
        InputError: missing or unreadable file, open or empty mesh, or a size that cannot be in metres.
    """

    source: str | Path | trimesh.Trimesh
    scale: float = 1.0
    translation: Sequence[float] = (0.0, 0.0, 0.0)
    rotation: Sequence[float] = (0.0, 0.0, 0.0)
    cut: tuple[Sequence[float], Sequence[float]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", as_length("mesh scale", self.scale))
        object.__setattr__(self, "translation", as_vector("mesh translation", self.translation, fill=0.0))
        object.__setattr__(self, "rotation", as_vector("mesh rotation", self.rotation, fill=0.0))
        _check_extent(self.name, self.local_bounds, self.scale)

    @property
    def name(self) -> str:
        """The file, as messages call it."""
        return f"mesh '{self.source}'" if isinstance(self.source, (str, Path)) else "mesh"

    @cached_property
    def solid(self) -> trimesh.Trimesh:
        """The scaled, closed mesh in its own frame, normals outwards [m]."""
        mesh = _load(Path(self.source)) if isinstance(self.source, (str, Path)) else self.source.copy()
        mesh = _closed(self.name, mesh)
        mesh.apply_scale(self.scale)
        return mesh if self.cut is None else _closed(f"{self.name}, cut", _behind(self.name, mesh, *self.cut))

    @property
    def surface(self) -> tuple[Array, np.ndarray[Any, np.dtype[np.int64]]]:
        """Vertices in world coordinates [m], (k, 3), and triangles as vertex indices, (m, 3)."""
        vertices = np.asarray(self.solid.vertices, dtype=np.float64)
        return vertices @ self.frame.T + self.origin, np.asarray(self.solid.faces, dtype=np.int64)

    @property
    def origin(self) -> Array:
        """Where the file's origin lies [m], (3,)."""
        return np.array(self.translation)

    @cached_property
    def frame(self) -> Array:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rotation of the mesh [-], (3, 3)."""
        return rotation_matrix(self.rotation)

    @cached_property
    def volume(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Volume enclosed by the triangles [m^3]."""
        return float(self.solid.volume)

    @property
    def area(self) -> float:
        """Not defined: a mesh has no single section; raises `InputError`."""
        raise InputError(f"{self.name}: a mesh is three-dimensional; in plane strain use a box, disk or polygon.")

    @cached_property
    def local_bounds(self) -> Array:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Bounds of the scaled mesh in its own frame [m], (2, 3)."""
        return np.asarray(self.solid.bounds, dtype=np.float64)

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the triangles [m], (n,); the sign is that of the angle-weighted normal."""
        if dim != 3:
            raise InputError(f"{self.name}: a mesh is three-dimensional; in plane strain use a box, disk or polygon.")
        from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkDoubleArray

        distances = vtkDoubleArray()
        distances.SetNumberOfTuples(len(points))
        self._evaluator.FunctionValue(numpy_to_vtk(np.ascontiguousarray(points), deep=True), distances)
        found = vtk_to_numpy(distances).astype(np.float64, copy=True)
        # Points on a face are on it whatever the scale of the mesh rounds them to.
        found[np.abs(found) < _ON_FACE * float(np.ptp(self.local_bounds, axis=0).max())] = 0.0
        return found

    @cached_property
    def _evaluator(self) -> Any:
        """VTK's double-precision distance to triangles: exact, 2 to 25 us a point, without a display.

        Built from the file's triangles once; trimesh's own query costs about 500 us a point.
        """
        from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
        from vtkmodules.vtkCommonCore import vtkPoints
        from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
        from vtkmodules.vtkFiltersCore import vtkImplicitPolyDataDistance

        vertices = np.ascontiguousarray(self.solid.vertices, dtype=np.float64)
        faces = np.ascontiguousarray(self.solid.faces, dtype=np.int64)
        points = vtkPoints()
        points.SetDataTypeToDouble()
        points.SetData(numpy_to_vtk(vertices, deep=True))
        triangles = vtkCellArray()
        triangles.SetData(3, numpy_to_vtkIdTypeArray(faces.ravel(), deep=True))
        surface = vtkPolyData()
        surface.SetPoints(points)
        surface.SetPolys(triangles)
        evaluator = vtkImplicitPolyDataDistance()
        evaluator.SetInput(surface)
        return evaluator


def _behind(name: str, mesh: trimesh.Trimesh, point: Sequence[float], normal: Sequence[float]) -> trimesh.Trimesh:
    """The closed part of a mesh behind a plane.

    Raises:
        InputError: nothing is left.
    """
    import trimesh
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPlane, vtkPlaneCollection, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkTriangleFilter
    from vtkmodules.vtkFiltersGeneral import vtkClipClosedSurface

    points, triangles = vtkPoints(), vtkCellArray()
    points.SetDataTypeToDouble()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.vertices, dtype=np.float64), deep=True))
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    triangles.SetData(3, numpy_to_vtkIdTypeArray(faces.ravel(), deep=True))
    surface = vtkPolyData()
    surface.SetPoints(points)
    surface.SetPolys(triangles)
    plane, planes = vtkPlane(), vtkPlaneCollection()
    plane.SetOrigin(*point)
    plane.SetNormal(*(-c for c in normal))
    planes.AddItem(plane)
    clip, flat = vtkClipClosedSurface(), vtkTriangleFilter()
    clip.SetClippingPlanes(planes)
    clip.SetInputData(surface)
    flat.SetInputConnection(clip.GetOutputPort())
    flat.Update()
    found = flat.GetOutput()
    if found.GetNumberOfPolys() == 0:
        raise InputError(f"{name}: nothing of it lies behind the plane of `cut`; turn the normal, or move the point.")
    vertices = vtk_to_numpy(found.GetPoints().GetData()).astype(np.float64)
    made = vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return trimesh.Trimesh(vertices, made, process=False)


def _load(path: Path) -> trimesh.Trimesh:
    """Read one mesh file, joining its parts."""
    import trimesh

    formats = set(trimesh.available_formats())
    if not path.exists():
        near = difflib.get_close_matches(path.name, _mesh_files(path.parent, formats), n=1, cutoff=0.4)
        hint = f" Did you mean '{path.parent / near[0]}'?" if near else ""
        raise InputError(f"mesh '{path}': no such file (looked in {path.resolve().parent}).{hint}")
    kind = path.suffix.lower().lstrip(".")
    if kind not in formats:
        known = ", ".join(sorted(formats & {"stl", "obj", "ply", "off", "glb", "gltf", "3mf"}))
        raise InputError(f"mesh '{path}': cannot read '.{kind}' files; convert it to one of: {known}.")
    try:
        mesh = trimesh.load(path, force="mesh")
    except Exception as error:  # each format's reader raises its own kinds; the user needs the file's name
        raise InputError(f"mesh '{path}': not a readable .{kind} file ({type(error).__name__}: {error}).") from error
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise InputError(f"mesh '{path}': holds no triangles; export the surface of the body as triangles.")
    return mesh


def _mesh_files(folder: Path, formats: set[str]) -> list[str]:
    """Names of mesh files in a folder."""
    if not folder.is_dir():
        return []
    return [p.name for p in folder.iterdir() if p.suffix.lower().lstrip(".") in formats]


def _closed(name: str, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Return the mesh with merged vertices and outward normals, or raise `InputError` if it is no solid."""
    import trimesh

    if len(mesh.faces) == 0:
        raise InputError(f"{name}: holds no triangles.")
    if not np.isfinite(mesh.vertices).all():
        raise InputError(f"{name}: some vertices are not finite.")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    mesh.update_faces(mesh.nondegenerate_faces())
    if len(mesh.faces) == 0:
        raise InputError(f"{name}: all triangles have zero area.")
    _, counts = np.unique(np.sort(mesh.edges, axis=1), axis=0, return_counts=True)
    lonely, crowded = int((counts == 1).sum()), int((counts > 2).sum())
    if lonely or crowded:
        parts = ([f"{lonely} open edges"] if lonely else []) + (
            [f"{crowded} edges of more than two triangles"] if crowded else []
        )
        raise InputError(
            f"{name}: not watertight, {' and '.join(parts)} among {len(counts)}: it has no inside. "
            "Try to close it: in Blender 'Mesh > Clean Up > Fill Holes', in MeshLab 'Close Holes', or "
            "`trimesh.repair.fill_holes(mesh)` for small ones; a sheet without thickness must be made solid first."
        )
    if not mesh.is_winding_consistent:
        trimesh.repair.fix_normals(mesh)
    if mesh.volume < 0.0:
        mesh.invert()
    if not mesh.is_winding_consistent or not mesh.volume > 0.0:
        raise InputError(f"{name}: its triangles do not agree on an outside; recompute the normals and export again.")
    return mesh


def _check_extent(name: str, bounds: Array, scale: float) -> None:
    """Warn about a body that is probably not in metres, refuse one that cannot be."""
    size = bounds[1] - bounds[0]
    largest = float(size.max())
    box = " x ".join(f"{s:.4g}" for s in size)
    text = f"{name}: its bounding box is {box} m with scale {scale:g}."
    if largest > _ODD_EXTENT[1]:
        text += f" Is the file in millimetres? Try scale {scale * 1e-3:g}: longest side {largest:.4g} mm."
    elif largest < _ODD_EXTENT[0]:
        text += f" Is the file in kilometres, or scaled twice? Try scale {scale * 1e3:g}."
    else:
        return
    if not _ABSURD_EXTENT[0] <= largest <= _ABSURD_EXTENT[1]:
        raise InputError(f"{text} Allowed: {_ABSURD_EXTENT[0]:g} to {_ABSURD_EXTENT[1]:g} m.")
    warnings.warn(text, UserWarning, stacklevel=4)
