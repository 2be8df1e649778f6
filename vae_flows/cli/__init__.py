"""The command line: `vae-flows`, or `python -m vae_flows`."""
