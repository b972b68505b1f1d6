"""Section 2: top-1 and top-5 error, with the 2012 program's rule for ties."""

from torch import Tensor


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
    top1, top5 = (1 - credit(scores, labels, k).mean().item() for k in (1, 5))
    return top1, top5
