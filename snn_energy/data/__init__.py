"""Data sets by name, and the user's own input files.

`load_data` is the only door; `register_dataset` adds to what it knows.
"""

from snn_energy.data.images import Data, Images
from snn_energy.data.sources import list_data, load_data, read_input, register_dataset

__all__ = ["Data", "Images", "list_data", "load_data", "read_input", "register_dataset"]
