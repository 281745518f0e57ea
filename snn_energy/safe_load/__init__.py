"""Files of weights from strangers: screened, then read, and nothing in them is run.

`screen` looks at a file of `torch.save` before torch does (its records, and by `opcodes` what its pickle asks
for); `load` reads what passed.
"""

from snn_energy.safe_load.load import beginning, plain, safe_load, write_safetensors

__all__ = ["beginning", "plain", "safe_load", "write_safetensors"]
