"""The speed comparison: this library against other formulations and libraries, at equal dynamics and tolerance."""
