"""The handwritten digits that come with scikit-learn: 1797 grey images of 8 x 8, on every machine without a network."""

from dataclasses import replace

import numpy as np

from alexnet.data.pictures import Dataset, Pictures, hold_out
from alexnet.runtime.errors import MachineError


def read_digits() -> Dataset:
    """The digits as RGB. Raises MachineError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MachineError("scikit-learn: holds the built-in digits; pip install 'alexnet[digits]'") from None
    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    keys = [f"digit {number}" for number in range(len(grey))]
    pictures = Pictures(
        digits.target.astype(np.int64),
        keys,
        "",
        lambda i: np.ascontiguousarray(np.repeat(grey[i][:, :, None], 3, axis=2)),
    )
    dataset = hold_out("scikit-learn's handwritten digits", tuple("0123456789"), pictures)
    return replace(dataset, reflects=False)
