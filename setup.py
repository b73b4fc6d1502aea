"""The shipped scenes and materials live beside the package in a checkout, and inside it once installed."""

from setuptools import find_packages, setup

SHIPPED = {"physim.shipped.scenes": "scenes", "physim.shipped.materials": "materials"}

setup(
    packages=[*find_packages(include=["physim", "physim.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data=dict.fromkeys(SHIPPED, ["*.yaml", "*.csv", "*.stl", "*.obj", "*.safetensors"]),
    include_package_data=False,
)
