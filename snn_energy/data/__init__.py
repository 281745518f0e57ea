"""Data sets by name, and the user's own input files.  `load_data` is the only door."""

from snn_energy.data.images import Data, Images
from snn_energy.data.sources import list_data, load_data, read_input

__all__ = ["Data", "Images", "list_data", "load_data", "read_input"]
