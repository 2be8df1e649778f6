"""Variational autoencoders whose approximate posteriors are FFJORD flows."""
