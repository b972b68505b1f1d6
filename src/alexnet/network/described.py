"""What computes a layer knows the layer's description."""

from torch import nn

from alexnet.network.layers import Layer


class Described(nn.Module):
    """A module for one layer of the table, which `print(network)` shows by the layer's numbers."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def extra_repr(self) -> str:
        """The layer's numbers."""
        return str(self.layer)
