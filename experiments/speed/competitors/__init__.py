"""Ways to compute a problem: this library's, the published formulation, other libraries."""
