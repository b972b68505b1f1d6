"""Section 3: the network, built from a lineage's layer table, with every activity available by its name."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from alexnet.kernels.after_convolution import RECTIFIED
from alexnet.kernels.choice import way
from alexnet.network.batch_norm import BatchNormalized
from alexnet.network.layers import Dropout, Gathering, Meeting
from alexnet.network.lineages import Lineage, lineage
from alexnet.network.operations import (
    Convolved,
    DroppedOut,
    Gathered,
    Here,
    Learned,
    Operation,
    Stages,
    operation,
    stages,
)
from alexnet.runtime.errors import BadInputError, UsageError
from alexnet.runtime.randomness import Purpose, torch_seed
from alexnet.runtime.suggestions import did_you_mean
from alexnet.runtime.tensor_file import finite


class AlexNet(nn.Module):
    """Section 3.5: five convolutional and three fully connected layers; or any other lineage.

    which      a lineage's name (`alexnet inspect` lists them) or a Lineage
    classes    how many; the lineage's own number by default
    seed       of the initial values; None: nothing is drawn, for weights that are loaded anyway

    It starts with its lineage's initial values. Raises UsageError for an unknown name, no classes, two layers of one
    name, or maps that towers cannot share.

    >>> network = AlexNet("cifar-18pct")
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, which: str | Lineage = "paper", classes: int | None = None, seed: int | None = 0) -> None:
        super().__init__()
        known = lineage(which) if isinstance(which, str) else which
        if classes is not None and classes < 1:
            raise UsageError(f"classes: {classes}; there is at least 1")
        self.lineage = known.with_classes(classes) if classes is not None else known
        self.steps: list[tuple[str, str]] = []  # an activity's name, where its module is stored
        towers = self.lineage.towers
        for row in self.lineage.table():
            towers = 1 if isinstance(row.layer, Gathering) else towers  # what follows is divided already
            place = getattr(row.layer, "stored_as", "") or row.layer.name
            if {row.layer.name, place} & {known for step in self.steps for known in step}:
                raise UsageError(f"{self.lineage.name}: two layers are called {row.layer.name}; give each its own name")
            self._store(place, operation(row.layer, row.input, towers))
            self.steps.append((row.layer.name, place))
        self.stages = stages(self.lineage.layers)  # what is computed together when nobody asks for what lies between
        if seed is not None:
            self.set_initial_values(seed)

    def set_initial_values(self, seed: int) -> None:
        """Section 5: draw every weight anew, a function of (seed, layer), and forget what was averaged."""
        for number, (_, layer) in enumerate(self.learned()):
            layer.set_initial_values(initial_values(seed, number))
        for module in self.modules():
            if isinstance(module, BatchNormalized):
                module.forget()

    def forward(self, images: Tensor | Callable[[], Tensor], here: Here | None = None) -> Tensor:
        """The logits.

        images    float[N, 3, side, side]   RGB, the mean subtracted; or what computes them: then nobody holds them
                                            behind the first layer, but for its backward if that needs them
        here      which of a run's dropout masks; without it PyTorch's own generator draws some
        returns   float[N, classes]

        Raises UsageError for images of another size.
        """
        return self.stage(0, None, self._fitting(images() if callable(images) else images), here)

    def stage(self, first: int, last: int | None, x: Tensor, here: Here | None = None) -> Tensor:
        """What the stages `first` to `last` (not included; None: to the end) make of `x`: a part of `forward`."""
        run, apart = list(self.stages[first:last]), way(x) == "triton"
        parts: tuple[Tensor, ...] = (x,)  # on a GPU a convolution leaves its towers apart, and the bias to what follows
        bias: Tensor | None = None
        del x
        while run:
            (numbers, together), *run = run
            convolved = None if together else self._followed(numbers, run)
            if together and self._untouched(*numbers):
                behind = self._followed(run[0][0], run[1:]) if apart and run else None
                parts, bias = together.behind(parts, bias, behind.layer.groups if behind else 1), None
            elif convolved and apart:
                parts, bias = convolved.towers(parts), convolved.bias
            elif convolved and run[0][1] == RECTIFIED:
                parts, run = (convolved(parts[0], rectified=True),), run[1:]
            else:
                for number in numbers:
                    parts = (self._output(number, parts[0], here),)
        return parts[0]

    def activations(self, images: Tensor, *names: str) -> dict[str, Tensor]:
        """The activities of the named layers (all of them when none is named), by name and in order.

        images   float[N, 3, side, side]
        In the test form: nothing is dropped. Where a layer has a rectifier, `conv1` is before it and `relu1` behind it.
        No further than the last of them is computed; of images of another size, as far as they go. Activities of a
        layer that does nothing here (dropout that was scaled while learning) are the same tensor as what enters it.
        Raises UsageError for unknown names.
        """
        known = [name for name, _ in self.steps]
        for name in names:
            if name not in known:
                raise UsageError(f"{name}: no such layer in {self.lineage.name}; {did_you_mean(name, known)}")
        found, training, x = {}, {module: module.training for module in self.modules()}, images
        self.eval()
        try:
            for number, name in enumerate(known):
                x = self._output(number, x, None)
                if name in (names or known):
                    found[name] = x
                if names and len(found) == len(set(names)):
                    break
        finally:
            for module, mode in training.items():
                module.training = mode
        return found

    def masks(self, seed: int, step: int) -> Tensor:
        """Section 4.2: what the dropouts' masks are counted from in a step of a run, a function of (seed, step, layer).

        returns   int64[dropouts], on the CPU; the same for a network and for its towers
        """
        layers = [layer for layer in self.lineage.layers if not isinstance(layer, Meeting | Gathering)]
        places = [place for place, layer in enumerate(layers) if isinstance(layer, Dropout)]
        seeds = [torch_seed(seed, Purpose.DROPOUT, step, place) for place in places]
        return torch.tensor(seeds, dtype=torch.int64)

    def learned(self) -> Iterator[tuple[str, Learned]]:
        """The layers with weights, by name and in order."""
        for name, place in self.steps:
            module = self.get_submodule(place)
            if isinstance(module, Learned):
                yield name, module

    def _fitting(self, images: Tensor) -> Tensor:
        if images.shape[1:] != self.lineage.input:
            given, wanted = (" x ".join(map(str, shape)) for shape in (images.shape, ("N", *self.lineage.input)))
            raise UsageError(f"images: {given}; {self.lineage.name} sees {wanted}")
        return images

    def _followed(self, numbers: range, run: Stages) -> Convolved | None:
        """The convolution of that number, if what follows it is computed at once and nobody has touched either."""
        if not run or run[0][1] is None:
            return None
        module = self._module(numbers[0])
        return module if isinstance(module, Convolved) and self._untouched(*numbers, *run[0][0]) else None

    def _untouched(self, *numbers: int) -> bool:
        """Whether these layers' modules are those that were put there, and nobody has hooked them."""
        for number in numbers:
            module = self._module(number)
            hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
            own = isinstance(module, Operation | Convolved) and module.layer == self.lineage.layers[number]
            ours = type(module).forward in (Operation.forward, Convolved.forward) and "forward" not in vars(module)
            if not own or not ours or any(hooks):
                return False
        return not _has_any_global_hook()

    def _module(self, number: int) -> nn.Module:
        return self.get_submodule(self.steps[number][1])

    def _output(self, number: int, x: Tensor, here: Here | None) -> Tensor:
        """What the layer of that number makes of `x`."""
        module = self._module(number)
        given: tuple[object, ...] = ()
        if here and isinstance(module, Gathered):
            given = (here.counts,)
        elif here and module.training:
            if isinstance(module, DroppedOut) and here.seeds is not None:
                which = sum(isinstance(layer, Dropout) for layer in self.lineage.layers[:number])
                given = here.seeds[which].to(x.device, non_blocking=True), here.row, here.tower
            elif isinstance(module, BatchNormalized):
                given = (here.weight,)
        output: Tensor = module(x, *given)
        return output

    def _store(self, place: str, module: nn.Module) -> None:
        *folders, name = place.split(".")
        parent: nn.Module = self
        for folder in folders:
            if folder not in dict(parent.named_children()):
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(name, module)


def initial_values(seed: int, number: int) -> torch.Generator:
    """What draws the initial values of the layer with weights of that number, from 0."""
    return torch.Generator().manual_seed(torch_seed(seed, Purpose.INITIAL_WEIGHTS, number))


def put_weights(network: AlexNet, weights: Mapping[str, Tensor], name: str) -> None:
    """Load weights that must be this network's own. Raises BadInputError naming the first that does not fit."""
    shapes = {key: own.shape for key, own in network.state_dict().items()}
    check_weights(shapes, weights, network.lineage.name, name)
    network.load_state_dict(weights)


def check_weights(shapes: Mapping[str, torch.Size], weights: Mapping[str, Tensor], lineage: str, name: str) -> None:
    """Raise BadInputError naming the first tensor of file `name` that has another shape, or is not finite."""
    for key in (*shapes, *weights):
        if key not in weights or key not in shapes or shapes[key] != weights[key].shape:
            found = tuple(weights[key].shape) if key in weights else "nothing"
            wanted = tuple(shapes[key]) if key in shapes else "nothing"
            raise BadInputError(
                f"{name}: weights of another network ({key} is {found}, {lineage} has {wanted}); "
                "use the run they were trained in"
            )
        if not weights[key].is_floating_point() or not finite(weights[key]):
            raise BadInputError(f"{name}: {key} holds values that are not finite numbers; train again")
