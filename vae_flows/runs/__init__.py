"""A run is a thing: its settings, its folder, and what it does."""
