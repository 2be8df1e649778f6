"""Grids of runs, and the engines that run them."""
