"""Data sets by name, and the user's own input files.

`load_data` is the only door to data sets, `read_input` to files; `register_dataset` adds to what the first
knows.
"""

from snn_energy.data.arrays import Arrays, read_input
from snn_energy.data.images import Data, Images
from snn_energy.data.sources import list_data, load_data, register_dataset

__all__ = ["Arrays", "Data", "Images", "list_data", "load_data", "read_input", "register_dataset"]
