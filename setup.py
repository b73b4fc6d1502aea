"""The shipped scenes and materials live beside the package in a checkout, and inside it once installed."""

from setuptools import find_packages, setup

SHIPPED = {
    "physim.shipped.scenes": "scenes",
    "physim.shipped.materials": "materials",
    "physim.shipped.materials.neural": "materials/neural",
}

setup(
    packages=[*find_packages(include=["physim", "physim.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={name: ["*.yaml", "*.csv", "*.stl", "*.obj", "*.safetensors", "*.mp4", "*.png"] for name in SHIPPED}
    | {"physim.speed": ["*.json"]},
    include_package_data=False,
)
