"""Initial values that keep the signal's size from layer to layer: the start of the default recipe.

The paper's N(0, 0.01^2) in every layer lets the image fade on its way to the logits, and the loss sits at ln(classes).
He's deviation, sqrt(2 / inputs), times what a normalization before the layer divides by, keeps it. Both are measured
in docs/notebook.md.
"""

from dataclasses import replace
from math import sqrt

from alexnet.network.layers import Convolution, FullyConnected, Layer, NormAcrossMaps, Normal, NormWithinMap
from alexnet.network.lineages import Lineage

LAST = Normal(0.001)  # the classes start nearly equal, and the first steps stay small


def scaled(lineage: Lineage) -> Lineage:
    """The same network with weights from N(0, 2 / inputs), the last layer's from N(0, 0.001^2), and biases 0."""
    layers: list[Layer] = []
    gain = 1.0
    for row in lineage.table():
        layer = row.layer
        if isinstance(layer, NormAcrossMaps | NormWithinMap):
            gain *= layer.k**layer.beta  # what it divides small activities by
        if isinstance(layer, Convolution | FullyConnected):
            is_last = layer.name == lineage.layers[-1].name
            rule = LAST if is_last else Normal(gain * sqrt(2 / layer.fan_in(row.input)))
            layer, gain = replace(layer, weight=rule, bias=0.0), 1.0
        layers.append(layer)
    return replace(lineage, layers=tuple(layers))
