"""Which numbers of a recipe can work."""

from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet.training.recipe import Recipe


def broken(recipe: "Recipe") -> Iterator[tuple[str, str]]:
    """The dotted names of those that cannot, each with what it has to be."""
    table = recipe.network.build()
    learning, images, parallel = recipe.learning, recipe.images, recipe.parallel
    rules = (
        ("seed", recipe.seed >= 0, "is a whole number from 0"),
        ("learning.epochs", learning.epochs >= 1, "is at least 1"),
        ("learning.batch", 1 <= learning.batch <= 2**16, "is between 1 and 65536"),
        ("learning.rate", isfinite(learning.rate) and learning.rate > 0, "is above 0"),
        ("learning.rate_for", learning.rate_for >= 0, "is at least 0"),
        ("learning.trust", isfinite(learning.trust) and learning.trust >= 0, "is at least 0"),
        ("learning.power", isfinite(learning.power) and learning.power > 0, "is above 0"),
        ("learning.planned_epochs", learning.planned_epochs >= 1, "is at least 1"),
        (
            "learning.warm_up",
            0 <= learning.warm_up < learning.planned_epochs,
            "is at least 0, below learning.planned_epochs",
        ),
        ("learning.momentum", 0 <= learning.momentum < 1, "is at least 0 and below 1"),
        ("learning.changes", all(isfinite(each.factor) and each.factor >= 0 for each in learning.changes),
         "has no factors below 0"),
        ("learning.layer_decay", all(isfinite(decay) and decay >= 0 for _, decay in learning.layer_decay),
         "has none below 0"),
        ("learning.decay", isfinite(learning.decay) and learning.decay >= 0, "is at least 0"),
        ("learning.bias_rate", isfinite(learning.bias_rate) and learning.bias_rate >= 0, "is at least 0"),
        ("learning.patience", learning.patience >= 1, "is at least 1"),
        ("images.patch", images.patch == table.side, f"is {table.side} for the lineage {table.name}"),
        ("images.side", images.patch <= images.side <= 4096, "is at least images.patch, at most 4096"),
        (
            "images.positions",
            max(1, images.side - images.patch) <= images.positions <= images.side - images.patch + 1,
            "is images.side - images.patch + 1, all places, or one less, as the paper counts them",
        ),
        ("images.patch_shared_by", 1 <= images.patch_shared_by < 2**31, "is at least 1, below 2147483648"),
        ("images.scale", isfinite(images.scale) and images.scale > 0, "is above 0"),
        ("images.colour_until", images.colour_until >= 0, "is at least 0"),
        ("parallel.towers", parallel.towers >= 1, "is at least 1"),
        ("parallel.connected", parallel.connected >= 1, "is at least 1"),
        (
            "parallel.connected",
            1 in (parallel.towers, parallel.connected),
            "is 1 with several towers: they divide the fully connected layers too",
        ),
        (
            "parallel.portion",
            parallel.portion >= 0 and parallel.portion % table.group == 0,
            "is at least 0"
            if table.group == 1
            else f"is a multiple of {table.group}, which are normalized together",
        ),
    )  # fmt: skip
    yield from ((field, rule) for field, holds, rule in rules if not holds)
