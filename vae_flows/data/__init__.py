"""Data sets: some come with the package, torchvision's by name, the user's own from memory, a file or a folder.

Toy densities of the plane are for density models; they are not images.
"""

from vae_flows.data.arrays import from_arrays
from vae_flows.data.conversion import as_data_set, as_examples
from vae_flows.data.data_set import DataSet
from vae_flows.data.examples import Examples, TensorExamples
from vae_flows.data.images import Images
from vae_flows.data.load import available_data_sets, load
from vae_flows.data.streaming import StreamedExamples
from vae_flows.data.toy import ToyDensity, available_toys, toy_density

__all__ = [
    "DataSet",
    "Examples",
    "Images",
    "StreamedExamples",
    "TensorExamples",
    "ToyDensity",
    "as_data_set",
    "as_examples",
    "available_data_sets",
    "available_toys",
    "from_arrays",
    "load",
    "toy_density",
]
