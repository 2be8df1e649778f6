"""Runs of the public API: single trainings, the benchmark grid, its presets and committed results."""
