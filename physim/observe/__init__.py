"""From positions to measurements to scalars: gauges, tracks, observations and robust losses."""
