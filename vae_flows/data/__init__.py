"""Data sets: some come with the package, torchvision's by name, the user's own from arrays, a file or a folder."""

from vae_flows.data.arrays import from_arrays
from vae_flows.data.images import DataSet, Images
from vae_flows.data.load import available_data_sets, load

__all__ = ["DataSet", "Images", "available_data_sets", "from_arrays", "load"]
