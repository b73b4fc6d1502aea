"""Pictures, videos, diagrams and export; VTK, matplotlib and PyAV are loaded when they are used."""

from physim.view.camera import Camera, fit_camera
from physim.view.coloring import PALETTE, color_by
from physim.view.export import write_ply, write_vtk
from physim.view.files import tile_images, write_mp4, write_png
from physim.view.painter_pyvista import OffscreenError
from physim.view.plots import Curve, Mark, StretchTest, plot_curves, plot_stress_stretch, write_figure
from physim.view.progress import track
from physim.view.recording import Obstacle, Recording, Stage
from physim.view.render import Backend, render_frames, render_movie, render_picture, stream_frames

__all__ = [
    "PALETTE",
    "Backend",
    "Camera",
    "Curve",
    "Mark",
    "Obstacle",
    "OffscreenError",
    "Recording",
    "Stage",
    "StretchTest",
    "color_by",
    "fit_camera",
    "plot_curves",
    "plot_stress_stretch",
    "render_frames",
    "render_movie",
    "render_picture",
    "stream_frames",
    "tile_images",
    "track",
    "write_figure",
    "write_mp4",
    "write_ply",
    "write_png",
    "write_vtk",
]
