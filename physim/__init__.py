"""physim: material laws from motion, with gradients one can trust. SI units throughout."""

__version__ = "0.1.0"
