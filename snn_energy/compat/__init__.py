"""Old import names, for model files that were written against libraries of years ago.

The official files of the spiking transformers and of SEW-ResNet import `spikingjelly.clock_driven`,
`spikingjelly.cext` or `timm.models.layers`, and give `backend="cupy"` to neurons.  Inside

    with snn_energy.compat.old_names():
        ...  # import such a file, build its network

these names are thin aliases of SpikingJelly 2 and timm 1, each with its old meaning.  Nothing else switches
them on, and outside nothing is left of them.
"""

from snn_energy.compat.names import old_names

__all__ = ["old_names"]
