"""Files that last: saved models, configurations and weights, written whole and read without running anything."""
