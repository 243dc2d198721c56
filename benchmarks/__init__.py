"""Measurements, as ratios inside one interleaved run."""
