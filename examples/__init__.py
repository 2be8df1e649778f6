"""Posteriors of this library in models of one's own, each a script that compares them with a Gaussian."""
