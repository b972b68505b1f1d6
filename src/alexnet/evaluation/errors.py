"""Section 2: top-1 and top-5 error, with the 2012 program's rule for ties."""

import torch
from torch import Tensor

AMONG = 5  # classes, the right one is always one of the first five
PORTION = 4096  # images looked at in one go: comparisons take as much room as the scores


def credit(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """How far each image's label is among its k most probable classes: 1 yes, 0 no, a share when tied across the edge.

    scores    float[N, K]
    labels    int64[N]
    returns   float64[N]

    With b classes strictly more probable and e as probable as the label (itself included), the credit is 0 if b >= k,
    else min(1, (k - b) / e): what a random order of the tied classes gives on average.
    """
    own = scores.gather(1, labels[:, None])
    better = (scores > own).sum(1)
    tied = (scores == own).sum(1)
    return ((k - better).clamp(min=0) / tied.double()).clamp(max=1)


def errors(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 error, fractions between 0 and 1. Scores float[N, K], labels int64[N]."""
    portions = list(zip(scores.split(PORTION), labels.split(PORTION), strict=True))
    top1, top5 = (1 - torch.cat([credit(*each, k) for each in portions]).mean().item() for k in (1, 5))
    return top1, top5


def in_words(top1: float, top5: float, classes: int) -> str:
    """`1.13 % top-1, 0.20 % top-5`; the latter where it says something."""
    return f"{top1:.2%} top-1" + (f", {top5:.2%} top-5" if classes > AMONG else "")
