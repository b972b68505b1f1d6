"""Randomness as a function, never as a state.

Everything random in a run is drawn from (seed, purpose, position): the order and the patches of an epoch from
(seed, epoch), a dropout mask from (seed, step, layer), an initial weight from (seed, layer). Nothing is stored, so a
resumed run, another number of threads or another number of processes draw the same numbers.
"""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """One independent stream for each use. The values are part of what a seed means: never renumber them."""

    INITIAL_WEIGHTS = 1
    ORDER = 2
    PATCHES = 3
    COLOUR = 4
    DROPOUT = 5
    PICTURES_TO_SHOW = 6
    STORE = 7


def sequence(seed: int, purpose: Purpose, *position: int) -> np.random.SeedSequence:
    """The seed of one stream; `position` says where in the run (epoch, step, layer), each from 0."""
    return np.random.SeedSequence((seed, int(purpose), *position))


def numbers(seed: int, purpose: Purpose, *position: int) -> np.random.Generator:
    """A NumPy generator for one position; row i of what it draws belongs to sample i."""
    return np.random.Generator(np.random.Philox(sequence(seed, purpose, *position)))


def torch_seed(seed: int, purpose: Purpose, *position: int) -> int:
    """63 bits for what PyTorch draws, and for a dropout mask."""
    return int(sequence(seed, purpose, *position).generate_state(1, np.uint64)[0]) >> 1
