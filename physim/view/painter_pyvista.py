"""Pictures through VTK, without a display: lit spheres, shaded colliders, a ground with a soft shadow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from physim.errors import PhysimError
from physim.shapes.shape import Array
from physim.view.camera import Camera
from physim.view.files import Image
from physim.view.ground import Ground
from physim.view.recording import Obstacle
from physim.view.surfaces import section_of, surface_of

_TOP, _BOTTOM, _EDGE = "#ffffff", "#e3e9f0", "#9aa5b1"
# Spheres a little wider than their spacing close the gaps between neighbours.
_RADIUS = 0.58
# Pictures are drawn this much larger and averaged: as smooth as VTK's own supersampling at a third of its time.
_OVER = 2


class OffscreenError(PhysimError):
    """VTK cannot draw here; the message says what failed."""


class PainterPyVista:
    """Draws frames of one scene with one camera; `close` frees the window."""

    def __init__(
        self,
        *,
        size: tuple[int, int],
        camera: Camera,
        dim: int,
        bounds: Array,
        domain: Array | None,
        obstacles: tuple[Obstacle, ...],
        ground: Ground | None,
        spacing: float,
    ) -> None:
        self._ground = ground
        self._spacing = spacing
        self._obstacles = obstacles
        self._shadow: Any = None
        try:
            with _quiet():
                import pyvista as pv

                self._pv: Any = pv
                self._plotter: Any = pv.Plotter(off_screen=True, window_size=[_OVER * s for s in size], lighting="none")
                self._light(dim)
                self._plotter.disable_anti_aliasing()
                # Transparent layers are few and come in order: sheet, shadow, colliders.
                self._plotter.renderer.SetUseOIT(False)
                self._spheres, self._mapper = self._particles(dim)
                if ground is not None:
                    self._lay(ground.corners, ground.sheet())
                    self._shadow = self._lay(ground.shadow_corners, np.zeros((2, 2, 4), np.uint8))
                self._bodies = [self._place(o, dim, bounds) for o in obstacles]
                if domain is not None:
                    self._outline(domain, dim)
                self._aim(camera, bounds)
        except (ImportError, RuntimeError, AttributeError) as error:
            raise OffscreenError(f"VTK cannot draw off-screen here ({type(error).__name__}: {error}).") from error

    def draw(self, points: Array, rgb: Image, frame: int) -> Image:
        """One picture, (H, W, 3) uint8.

        Args:
            points: positions [m], (n, 3).
            rgb: colours, (n, 3) uint8.
            frame: index of the frame, for the poses of the obstacles.
        """
        cloud = self._pv.PolyData(np.ascontiguousarray(points))
        cloud.point_data["rgb"] = np.ascontiguousarray(rgb)
        self._mapper.SetInputData(cloud)
        for obstacle, actor in zip(self._obstacles, self._bodies, strict=True):
            if obstacle.poses is not None:
                actor.user_matrix = np.asarray(obstacle.poses[frame], dtype=float)
        if self._ground is not None:
            self._shadow.texture = self._texture(self._ground.shadow(points, self._spacing))
        with _quiet():
            self._plotter.render()  # a picture taken without it would repeat the frame before
            image = self._plotter.screenshot(None, return_img=True)
        if image is None or np.ptp(image) == 0:
            raise OffscreenError("VTK returned an empty picture: its OpenGL does not work here.")
        return _halved(np.asarray(image)[:, :, :3])

    def close(self) -> None:
        """Free the window and its memory."""
        self._plotter.close()

    def _light(self, dim: int) -> None:
        pv = self._pv
        self._plotter.set_background(_BOTTOM if dim == 3 else _TOP, top=_TOP)
        for position, strength in (((-0.4, 0.8, 1.2), 0.9), ((1.0, 0.3, 0.6), 0.3)):
            self._plotter.add_light(pv.Light(position=position, intensity=strength, light_type="camera light"))

    def _particles(self, dim: int) -> tuple[Any, Any]:
        from vtkmodules.vtkRenderingCore import vtkActor
        from vtkmodules.vtkRenderingOpenGL2 import vtkOpenGLSphereMapper

        mapper = vtkOpenGLSphereMapper()  # ray-cast spheres: exact outlines at a cost of two triangles each
        mapper.SetRadius(_RADIUS * self._spacing)
        mapper.SetScalarModeToUsePointFieldData()
        mapper.SelectColorArray("rgb")
        mapper.SetColorModeToDirectScalars()
        actor = vtkActor()
        actor.SetMapper(mapper)
        look = actor.GetProperty()
        flat = dim == 2  # in the plane the shading would only distract from the colours
        look.SetAmbient(0.75 if flat else 0.36)
        look.SetDiffuse(0.35 if flat else 0.75)
        look.SetSpecular(0.0 if flat else 0.12)
        look.SetSpecularPower(25.0)
        self._plotter.add_actor(actor, reset_camera=False)
        return actor, mapper

    def _texture(self, picture: Image, *, mipmap: bool = False) -> Any:
        texture = self._pv.Texture(np.ascontiguousarray(picture[::-1]))
        texture.interpolate, texture.mipmap = True, mipmap
        return texture

    def _lay(self, corners: Array, picture: Image) -> Any:
        sheet = self._pv.PolyData(corners, faces=[4, 0, 1, 2, 3])
        sheet.active_texture_coordinates = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        return self._plotter.add_mesh(
            sheet, texture=self._texture(picture, mipmap=True), lighting=False, reset_camera=False
        )

    def _place(self, obstacle: Obstacle, dim: int, bounds: Array) -> Any:
        pv = self._pv
        if dim == 2:
            rim = section_of(obstacle.shape, bounds)
            vertices = np.column_stack([rim, np.full(len(rim), bounds[:, 2].mean())])
            faces = [tuple(range(len(rim)))] if len(rim) else []
        else:
            surface = surface_of(obstacle.shape, bounds)
            vertices, faces = surface.vertices, surface.faces
        flat = [i for face in faces for i in (len(face), *face)]
        body = pv.PolyData(vertices, faces=flat) if faces else pv.PolyData()
        if not faces:
            return self._plotter.add_mesh(pv.PolyData(bounds.mean(axis=0)[None]), opacity=0.0, reset_camera=False)
        if dim == 3:
            body = body.triangulate().compute_normals(split_vertices=True, feature_angle=40.0)
        options: dict[str, Any] = {"ambient": 0.9, "diffuse": 0.1} if dim == 2 else {"ambient": 0.3, "diffuse": 0.7}
        return self._plotter.add_mesh(
            body,
            color=obstacle.color,
            opacity=obstacle.opacity,
            smooth_shading=dim == 3,
            reset_camera=False,
            **options,
        )

    def _outline(self, domain: Array, dim: int) -> None:
        low, high = domain
        corners = np.array([[x, y, z] for z in (low[2], high[2]) for y in (low[1], high[1]) for x in (low[0], high[0])])
        edges = [(0, 1), (2, 3), (0, 2), (1, 3)]
        if dim == 3:
            edges += [(4, 5), (6, 7), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)]
        lines = self._pv.PolyData(corners, lines=[i for a, b in edges for i in (2, a, b)])
        self._plotter.add_mesh(lines, color=_EDGE, line_width=1.5 * _OVER, lighting=False, reset_camera=False)

    def _aim(self, camera: Camera, bounds: Array) -> None:
        eye = self._plotter.camera
        eye.position, eye.focal_point, eye.up = camera.position, camera.target, camera.up
        if camera.height is None:
            eye.view_angle = camera.view_angle
        else:
            eye.enable_parallel_projection()
            eye.parallel_scale = 0.5 * camera.height
        distance = float(np.linalg.norm(np.subtract(camera.position, camera.target)))
        reach = 3.0 * float(np.linalg.norm(bounds[1] - bounds[0])) + distance
        eye.clipping_range = (0.01 * distance, distance + reach)


def _halved(image: Image) -> Image:
    from PIL import Image as Picture

    return np.asarray(Picture.fromarray(np.ascontiguousarray(image)).reduce(_OVER)).copy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep VTK's remarks on missing displays off standard error; failures are raised, not logged."""
    from vtkmodules.vtkCommonCore import vtkLogger

    before = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtkLogger.SetStderrVerbosity(vtkLogger.ConvertToVerbosity(before))
