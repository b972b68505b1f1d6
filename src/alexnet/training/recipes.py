"""The recipes by name: one for each lineage, as printed or as run, and the default for people's own pictures.

Sources: section 5 of the paper; the 2012 configurations and the notes at their ends (docs/disagreements.md).
"""

from dataclasses import replace

from alexnet.data.augment import Images
from alexnet.network.lineages import LINEAGES
from alexnet.runtime.errors import UsageError
from alexnet.runtime.suggestions import did_you_mean
from alexnet.training.recipe import Change, Learning, NetworkChoice, Parallel, Recipe

PAPER = Recipe(
    "paper",
    network=NetworkChoice("paper"),
    # 2048 = 32 x 32 positions and 2 reflections; 33 x 33 fit.
    images=Images(positions=32, colour="eigenvalue"),
    learning=Learning(epochs=90, schedule="stall"),
)

AS_RUN = Images(patch_shared_by=32, order="fixed", mean="centre", colour="deviation")
AFTER_CONV1 = ("conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "fc8")


def _as_run(
    lineage: str, stopped: int, tenth: int, hundredth: int, conv1_low: int, conv1_frozen: int, rest_low: int
) -> Recipe:
    """A run of 2012: epochs at which its author lowered the rates by hand.

    The weights go to a tenth and a hundredth; then conv1 is lowered and the colour shifts end, conv1 freezes, and the
    rest goes to a thousandth. The biases of run 145 kept their 0.02 to the end.
    """
    changes = (
        Change(tenth, 0.1, parameters="weights"),
        Change(hundredth, 0.01, parameters="weights"),
        Change(conv1_low, 0.001, ("conv1",), "weights"),
        Change(conv1_frozen, 0.0, ("conv1",)),
        Change(rest_low, 0.001, AFTER_CONV1, "weights"),
    )
    return Recipe(
        lineage,
        network=NetworkChoice(lineage),
        images=replace(AS_RUN, colour_until=conv1_low),
        learning=Learning(
            epochs=stopped, bias_rate=2, bias_decay=False, schedule="fixed", changes=changes, planned_epochs=stopped
        ),
    )


CAFFE = Recipe(
    "caffe",
    network=NetworkChoice("caffe"),
    images=Images(
        patch=227, positions=30, shape="squashed", order="fixed"
    ),  # one shuffle, when the pictures are stored
    learning=Learning(
        epochs=90,
        batch=256,
        bias_rate=2,
        bias_decay=False,
        schedule="fixed",
        changes=tuple(Change(20 * drop, 0.1**drop) for drop in (1, 2, 3, 4)),  # every 100,000 steps
    ),
)

ONE_WEIRD_TRICK = Recipe(
    "one-weird-trick",
    network=NetworkChoice("one-weird-trick"),
    images=Images(scale=1 / 57),  # torchvision divides by the pixels' deviation, about 0.225 * 255
    learning=Learning(epochs=90, decay=1e-4, schedule="fixed", changes=(Change(30, 0.1), Change(60, 0.01))),
)

# AlexNet-BN as its authors configured it for 32,768 images a step (docs/disagreements.md). The rate is in proportion to
# the batch, and 256 images at a time fit anywhere.
LARGE_BATCH = Recipe(
    "large-batch",
    network=NetworkChoice("large-batch"),
    images=Images(patch=227, positions=30, shape="squashed", scale=1 / 256),
    learning=Learning(
        epochs=100,
        batch=32768,
        rate=32,
        rate_for=32768,
        trust=0.001,
        schedule="falling",
        power=2,
        warm_up=10,
        planned_epochs=100,
    ),
    parallel=Parallel(portion=256),
)


def _cifar(
    name: str, epochs: int, drops: tuple[int, ...], decay: float, layer_decay: tuple[tuple[str, float], ...], patch: int
) -> Recipe:
    """One of the author's CIFAR-10 runs: weights at 0.001, biases at 0.002, divided by ten at each drop."""
    return Recipe(
        name,
        network=NetworkChoice(name),
        images=Images(side=32, patch=patch, positions=33 - patch, reflections=patch < 32, order="fixed", mean="centre"),
        learning=Learning(
            epochs=epochs,
            rate=0.001,
            decay=decay,
            layer_decay=layer_decay,
            bias_rate=2,
            bias_decay=False,
            schedule="fixed",
            changes=tuple(Change(epoch, 0.1 ** (number + 1)) for number, epoch in enumerate(drops)),
            planned_epochs=epochs,
        ),
    )


LOCAL = ("local3", 0.004), ("local4", 0.004)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        PAPER,
        _as_run("source-2012", 91, 25, 51, 67, 72, 79),
        _as_run("source-2012-half", 96, 20, 48, 66, 72, 96),
        _as_run("source-2012-conv6", 91, 25, 51, 67, 72, 79),  # pre-trained in three stages; 145's schedule here
        _as_run("source-2012-no-overlap", 90, 23, 51, 79, 79, 79),
        _as_run("source-2012-no-norm", 97, 22, 44, 69, 73, 86),
        CAFFE,
        replace(CAFFE, name="caffenet", network=NetworkChoice("caffenet")),
        ONE_WEIRD_TRICK,
        LARGE_BATCH,
        _cifar("cifar-80sec", 10, (8,), 0.004, (("fc64", 0.03), ("fc10", 0.03)), 32),
        _cifar("cifar-18pct", 140, (120, 130), 0.004, (("fc10", 1.0),), 32),
        # The author held the fifth file back for the first 100 (350) epochs; here all five are learned from throughout.
        _cifar("cifar-13pct", 160, (140, 150), 0.0, (*LOCAL, ("fc10", 0.004)), 24),
        _cifar("cifar-11pct", 520, (500, 510), 0.0, (*LOCAL, ("fc10", 0.01)), 24),
    )
}
assert set(RECIPES) == set(LINEAGES)

STEPS_AN_EPOCH = 90  # what the default recipe aims at, within batches of 16 to 128
NAMES = ("default", *RECIPES)


def default_recipe(images: int, reflects: bool = True) -> Recipe:
    """For people's own pictures, from the first try.

    images     how many there are to learn from
    reflects   whether a mirrored picture is still one of its class

    The paper's network and update rule; the start, the pixels' scale, the batch and the schedule are chosen so that it
    learns on any seed: He's initial values, biases 0, pixels divided by about their deviation, a batch that gives some
    ninety steps an epoch, and a rate that falls to 0 in a straight line.
    """
    batch = 16
    while batch < 128 and batch * 2 * STEPS_AN_EPOCH <= images:
        batch *= 2
    return Recipe(
        "default",
        network=NetworkChoice("paper", initial="scaled"),
        images=Images(scale=1 / 64, reflections=reflects),
        learning=Learning(epochs=5, batch=batch, schedule="falling"),
    )


def recipe_named(name: str, images: int, reflects: bool = True) -> Recipe:
    """The recipe of that name; the default one depends on the pictures. Raises UsageError naming the nearest one."""
    if name == "default":
        return default_recipe(images, reflects)
    if name not in RECIPES:
        raise UsageError(f"--recipe: {name}: no such recipe; {did_you_mean(name, NAMES)}")
    return RECIPES[name]
