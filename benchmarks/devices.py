"""What 8, 64 and 512 devices would make of one device's pace, from stated bandwidths: arithmetic, nothing is run.

    python benchmarks/devices.py --rate 89 --links 1.25 12.5 [--batch-a-device 64]

rate    images a second of one device by itself
links   gigabytes a second that a device sends and receives at once

A step takes what computing takes, and sending what `exchanges.formula` counts, one after the other: nothing is hidden
behind computing, and a message's own delay counts for nothing. Last line: one JSON object.
"""

import argparse
import json
from typing import Any

from alexnet.network.lineages import lineage
from exchanges import Layout, formula

BF16 = 2  # bytes


def layouts(devices: int) -> dict[str, Layout]:
    """The ways to use that many, by name."""
    return {
        "shares": Layout(shares=devices),
        "pairs of towers": Layout(shares=devices // 2, over=2),
        "hybrids of 8": Layout(shares=devices // 8, over=8, hybrid=True),
        "one hybrid": Layout(over=devices, hybrid=True),
    }


def efficiency(sent: float, images: int, rate: float, link: float) -> float:
    """The share of their time that devices compute: `sent` bytes a step, `images` a step on each."""
    computing = images / rate
    return computing / (computing + sent / (link * 1e9))


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--links", type=float, nargs="+", default=[1.25, 12.5, 50.0])
    parser.add_argument("--batch-a-device", type=int, default=128)
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 64, 512])
    options = parser.parse_args()
    whole, images = lineage(options.lineage), options.batch_a_device
    print(f"{whole.name}, bf16, {images} images a step on each device, {options.rate:g} images a second on each\n")
    links = " | ".join(f"{link:g} GB/s" for link in options.links)
    print(f"| devices | batch | layout | a device sends, MB a step | {links} |\n|{'---|' * (4 + len(options.links))}")
    found: list[dict[str, Any]] = []
    for devices in options.devices:
        for name, layout in layouts(devices).items():
            if name == "one hybrid" and devices == 8:
                continue  # the same as hybrids of 8
            sent = sum(formula(whole, layout, images * devices, BF16).values())
            shares = [efficiency(sent, images, options.rate, link) for link in options.links]
            found.append({"devices": devices, "layout": name, "sent_mb": sent / 1e6, "efficiency": shares})
            each = " | ".join(f"{share:.2f}" for share in shares)
            print(f"| {devices} | {images * devices:,} | {name} | {sent / 1e6:.1f} | {each} |")
    print(json.dumps(vars(options) | {"rows": found}))


if __name__ == "__main__":
    main()
