"""Geometry to particles or fields: primitives, meshes, signed distance."""

from physim.shapes.field import DistanceField, distance_field
from physim.shapes.mesh import Mesh
from physim.shapes.polygon import Polygon
from physim.shapes.primitives import Box, Cylinder, Plane, Sphere
from physim.shapes.sampling import Fill, ParticleSet, sample
from physim.shapes.shape import Shape

__all__ = [
    "Box",
    "Cylinder",
    "DistanceField",
    "Fill",
    "Mesh",
    "ParticleSet",
    "Plane",
    "Polygon",
    "Shape",
    "Sphere",
    "distance_field",
    "sample",
]
