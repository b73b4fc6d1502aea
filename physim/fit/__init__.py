"""Fitting: parameters, stages, optimisers, checkpoints, uncertainty and the report."""
