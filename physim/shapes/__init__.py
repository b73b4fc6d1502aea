"""Geometry to particles or fields: primitives, meshes, signed distance."""

from physim.shapes.field import DistanceField, distance_field
from physim.shapes.mesh import Mesh
from physim.shapes.outline import Outline
from physim.shapes.polygon import Polygon
from physim.shapes.primitives import Box, Cylinder, Plane, Sphere
from physim.shapes.revolved import Revolved
from physim.shapes.sampling import Fill, ParticleSet, sample
from physim.shapes.shape import Shape
from physim.shapes.tabulated import Tabulated

__all__ = [
    "Box",
    "Cylinder",
    "DistanceField",
    "Fill",
    "Mesh",
    "Outline",
    "ParticleSet",
    "Plane",
    "Polygon",
    "Revolved",
    "Shape",
    "Sphere",
    "Tabulated",
    "distance_field",
    "sample",
]
