"""The lineages written out once more, in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional as F


def local_norm(x: Tensor, n: int, scale: float, k: float) -> Tensor:
    """PyTorch's own, which divides its scale by n as the programs of 2012 did."""
    return F.local_response_norm(x, n, scale, 0.75, k)


def patch_norm(x: Tensor, size: int, scale: float) -> Tensor:
    energy = F.avg_pool2d(x * x, size, stride=1, padding=size // 2)  # scale is divided by the whole window's size
    return x / (1 + scale * energy) ** 0.75


def per_tower(norm, x: Tensor, *numbers: float) -> Tensor:
    return torch.cat([norm(tower, *numbers) for tower in x.chunk(2, dim=1)], dim=1)


def pool(x: Tensor, size: int = 3) -> Tensor:
    return F.max_pool2d(x, size, 2, ceil_mode=True)


def head(x: Tensor, w: dict[str, Tensor], at_test: float) -> Tensor:
    """fc6 to fc8 in plain PyTorch; hidden activities are multiplied by `at_test`."""
    x = at_test * F.relu(F.linear(x.flatten(1), w["fc6.weight"], w["fc6.bias"]))
    x = at_test * F.relu(F.linear(x, w["fc7.weight"], w["fc7.bias"]))
    return F.linear(x, w["fc8.weight"], w["fc8.bias"])


def stated(name: str, x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """The lineage written out once more."""

    def conv(number: int, x: Tensor, pad: int, groups: int = 1, stride: int = 1) -> Tensor:
        return F.conv2d(x, w[f"conv{number}.weight"], w[f"conv{number}.bias"], stride, pad, 1, groups)

    caffe_like, as_run = name in ("caffe", "caffenet", "large-batch"), name.startswith("source-2012")

    def bn(number: int, x: Tensor) -> Tensor:  # in this lineage only
        if name != "large-batch":
            return x
        mean, variance = (w[f"bn{number}.{kind}"][:, None, None] for kind in ("mean", "variance"))
        return (x - mean) / (variance + 1e-4).sqrt()

    groups, window = (1 if name == "source-2012-half" else 2), (2 if name == "source-2012-no-overlap" else 3)
    x = conv(1, x if caffe_like else F.pad(x, (0, 3, 0, 3)), 0, stride=4)
    if name == "paper":
        x = pool(per_tower(local_norm, F.relu(x), 5, 5e-4, 2))
        x = pool(per_tower(local_norm, F.relu(conv(2, x, 2, groups)), 5, 5e-4, 2))
    elif name == "caffe":
        x = pool(local_norm(F.relu(x), 5, 1e-4, 1))
        x = pool(local_norm(F.relu(conv(2, x, 2, groups)), 5, 1e-4, 1))
    elif name == "caffenet":
        x = local_norm(pool(F.relu(x)), 5, 1e-4, 1)
        x = local_norm(pool(F.relu(conv(2, x, 2, groups))), 5, 1e-4, 1)
    elif name == "large-batch":
        x = bn(3, pool(F.relu(conv(2, bn(2, pool(F.relu(x))), 2, groups))))
    elif name == "source-2012-no-norm":
        x = pool(F.relu(conv(2, F.relu(pool(x)), 2, groups)))
    elif name == "source-2012-half":
        x = F.relu(pool(local_norm(x, 5, 1e-4, 2)))
        x = pool(patch_norm(local_norm(F.relu(conv(2, x, 2)), 5, 1e-4, 2), 5, 0.001))
    else:
        x = F.relu(pool(per_tower(local_norm, x, 5, 1e-4, 2), window))
        x = F.relu(conv(2, x, 1 if window == 2 else 2, groups))
        x = pool(patch_norm(per_tower(local_norm, x, 5, 1e-4, 2), 5, 0.001), window)
    x = bn(4, F.relu(conv(3, x, 1)))
    x = bn(5, F.relu(conv(4, x, 0 if window == 2 else 1, groups)))
    x = pool(F.relu(conv(5, x, 1, groups)), window)
    if name == "source-2012-conv6":
        x = F.relu(conv(6, x, 1))
    return head(x, w, at_test=0.5 if as_run or name == "paper" else 1)


def cifar_stated(name: str, x: Tensor, w: dict[str, Tensor]) -> Tensor:
    def conv(number: int, x: Tensor) -> Tensor:
        return F.conv2d(x, w[f"conv{number}.weight"], w[f"conv{number}.bias"], padding=2)

    def average(x: Tensor) -> Tensor:
        inside = F.avg_pool2d(F.pad(torch.ones_like(x), (0, 1, 0, 1)), 3, 2)
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2) / inside

    x = pool(F.relu(conv(1, x)))
    x = patch_norm(x, 3, 5e-5) if name == "cifar-18pct" else x
    x = average(F.relu(conv(2, x)))
    x = patch_norm(x, 3, 5e-5) if name == "cifar-18pct" else x
    x = average(F.relu(conv(3, x))).flatten(1)
    if name == "cifar-80sec":
        x = F.relu(F.linear(x, w["fc64.weight"], w["fc64.bias"]))
    return F.linear(x, w["fc10.weight"], w["fc10.bias"])
