"""Learned laws in the standard setting of NCLaw (Ma et al. 2023, arXiv 2304.14369): `python -m tools.nclaw`."""
