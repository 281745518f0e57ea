"""Networks that come as NIR files, run by NIR's own equations.

NIR (Pedersen et al., Nature Communications 2024) describes a network as nodes, each an equation in continuous
time, and edges; edges that meet are summed.  How time is cut into steps it leaves to the reader.  Here it is
Euler's forward method with a step of dt seconds, as in the numpy reference of the paper's repository
(neuromorphs/NIR, paper/03_rnn/extras/debug_CubaLIF); `neurons.py` has each equation beside its steps.
"""

from snn_energy.models.nir.file import arrays, is_nir, read_nir
from snn_energy.models.nir.network import DT, NirNetwork

__all__ = ["DT", "NirNetwork", "arrays", "is_nir", "read_nir"]
