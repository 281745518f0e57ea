"""Data sets by name, and the user's own input files.

`load_data` is the only door to data sets, `read_input` to files; `register_dataset` adds to what the first
knows.  A data set's parts hand out batches (`Part`): from memory (`Images`), or read as needed (`Stream`).
"""

from snn_energy.data.arrays import Arrays, read_input
from snn_energy.data.images import Images
from snn_energy.data.parts import Data, Part
from snn_energy.data.sources import describe_data, list_data, load_data, register_dataset
from snn_energy.data.stream import Stream

__all__ = [
    "Arrays",
    "Data",
    "Images",
    "Part",
    "Stream",
    "describe_data",
    "list_data",
    "load_data",
    "read_input",
    "register_dataset",
]
