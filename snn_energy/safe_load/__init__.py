"""Files of weights from strangers: screened, then read, and nothing in them is run.

`screen` looks at a file of `torch.save` before torch does (its records, and by `opcodes` what its pickle asks
for); `load` reads what passed; `save` writes what `load` reads.
"""

from snn_energy.safe_load.load import beginning, numbers_of, safe_load
from snn_energy.safe_load.save import plain, safe_save

__all__ = ["beginning", "numbers_of", "plain", "safe_load", "safe_save"]
