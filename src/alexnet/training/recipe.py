"""Every number of a run, as one frozen value. No torch here."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from alexnet.data.augment import Images
from alexnet.network.lineages import LINEAGES, Lineage, lineage
from alexnet.network.scaling import scaled
from alexnet.runtime.errors import BadInputError, UsageError
from alexnet.runtime.suggestions import did_you_mean
from alexnet.training.rules import broken


@dataclass(frozen=True)
class NetworkChoice:
    """Which network.

    lineage    a historical variant's name
    initial    "lineage": its own initial values; "scaled": deviations that keep the signal's size, biases 0
    """

    lineage: str = "paper"
    initial: Literal["lineage", "scaled"] = "lineage"

    def build(self) -> Lineage:
        """The layer table that these choices give."""
        known = lineage(self.lineage)
        return scaled(known) if self.initial == "scaled" else known


@dataclass(frozen=True)
class Change:
    """From `epoch` on (the first is 0), the rate of some layers is `factor` times learning.rate; 0 freezes them."""

    epoch: int
    factor: float
    layers: tuple[str, ...] = ()  # none named: all
    parameters: Literal["weights", "biases", "both"] = "both"


@dataclass(frozen=True)
class Learning:
    """Section 5.

    epochs        passes over the training images
    batch         images a step
    rate          learning rate at the start
    rate_for      the batch that the rate is meant for: other batches' is in proportion; 0: any
    trust         LARS: a layer's step as a share of its weights, times the rate; 0: the plain rule
    momentum      share of the velocity that a step keeps
    decay         weight decay
    layer_decay   layers with a decay of their own
    bias_rate     the biases' rate, in rates of the weights (2 in 2012)
    bias_decay    whether biases decay too (not in 2012)
    schedule      "stall": a tenth whenever the held-out error stops improving, at most three times (the paper);
                  "fixed": `changes`, epoch by epoch (what was really run); "falling": a warm-up, then down to 0 as
                  a power of what is left
    power         of a falling schedule; 1 is a straight line
    warm_up       epochs over which a falling schedule rises, out of `planned_epochs`; at least 20 steps
    patience      epochs without improvement that count as a stall
    changes       of a fixed schedule
    planned_epochs  how long changes and warm-up were planned for; they are stretched in proportion for other lengths
    """

    epochs: int = 90
    batch: int = 128
    rate: float = 0.01
    rate_for: int = 0
    trust: float = 0.0
    momentum: float = 0.9
    decay: float = 0.0005
    layer_decay: tuple[tuple[str, float], ...] = ()
    bias_rate: float = 1.0
    bias_decay: bool = True
    schedule: Literal["stall", "fixed", "falling"] = "stall"
    power: float = 1.0
    warm_up: float = 0.0
    patience: int = 3
    changes: tuple[Change, ...] = ()
    planned_epochs: int = 90


# A number of `Learning` that one schedule alone looks at.
LOOKED_AT_BY = {"learning.patience": "stall", "learning.warm_up": "falling", "learning.power": "falling"}


@dataclass(frozen=True)
class Parallel:
    """Section 3.2: how a run lies over processes. Any layout goes on with what another one saved.

    towers      processes that each network's towers are divided over; torchrun starts them
    connected   processes that the fully connected layers alone are divided over, each with a part of the images before
                them ("One weird trick", 2014)
    portion     images that a process computes at a time; 0: its whole share of the batch. The gradient is the batch's
    """

    towers: int = 1
    connected: int = 1
    portion: int = 0


@dataclass(frozen=True)
class Recipe:
    """A run, whole: the same recipe on the same data and machine gives the same bits."""

    name: str
    seed: int = 0
    network: NetworkChoice = NetworkChoice()
    images: Images = Images()
    learning: Learning = Learning()
    parallel: Parallel = Parallel()

    def check(self) -> "Recipe":
        """Raise UsageError for a number that cannot work; otherwise itself."""
        for field, rule in broken(self):
            raise UsageError(f"--{field}: {rule}; the recipe {self.name} has {_value(self, field)}")
        return self

    def altered(self, settings: Mapping[str, str]) -> "Recipe":
        """The recipe with some numbers set by their dotted names, as on the command line.

        Raises UsageError for an unknown name (with the nearest one) or a value of another kind.
        """
        recipe = self
        for name, text in settings.items():
            recipe = _set(recipe, name.split("."), name, text)
        return recipe

    def check_looked_at(self, names: Iterable[str]) -> "Recipe":
        """Raise UsageError for a number, set by its name, that the schedule does not look at; otherwise itself."""
        for name in names:
            if LOOKED_AT_BY.get(name, self.learning.schedule) != self.learning.schedule:
                raise UsageError(
                    f"--{name}: the schedule {LOOKED_AT_BY[name]} looks at it, and this run's is "
                    f"{self.learning.schedule}; leave it out, or choose with --learning.schedule"
                )
        return self

    def to_dict(self) -> dict[str, Any]:
        """For `recipe.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str, name: str) -> "Recipe":
        """Read `recipe.json`; what an older version did not write has its default, which is what that version did.

        Raises BadInputError naming the file when a field is unknown or wrong, or a number cannot work.
        """
        try:
            return cls.check(_build(cls, json.loads(text)))
        except (ValueError, TypeError, KeyError, UsageError) as error:
            fault = str(error).removeprefix("--")
            raise BadInputError(f"{name}: not a recipe of this version ({fault}); train again") from error


def settable() -> dict[str, tuple[type, str]]:
    """Every dotted name that can be set, with its kind and what it means (from the docstrings above)."""
    found: dict[str, tuple[type, str]] = {}
    for field, kind in get_type_hints(Recipe).items():
        if is_dataclass(kind):
            meanings = _meanings(kind.__doc__ or "")
            for name, inner in get_type_hints(kind).items():
                if get_origin(inner) is not tuple:
                    found[f"{field}.{name}"] = (inner, meanings.get(name, ""))
        elif field != "name":
            found[field] = (kind, "everything random in the run is a function of it")
    return found


def _meanings(docstring: str) -> dict[str, str]:
    """The table of a docstring: a name, two or more spaces, what it means, perhaps on several lines."""
    meanings: dict[str, str] = {}
    name = ""
    for line in docstring.splitlines():
        if entry := re.match(r" {4}(\w+)  +(.+)", line):
            name = entry[1]
            meanings[name] = entry[2]
        elif name and line.startswith(" " * 8):
            meanings[name] += " " + line.strip()
        else:
            name = ""
    return meanings


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """The dotted names of the fields whose values differ."""
    one, two = (_flat(asdict(each)) for each in (recipe, other))
    return [name for name in one if one[name] != two.get(name)]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return flat


def _value(recipe: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        recipe = getattr(recipe, name)
    return recipe


def _set(part: Any, path: list[str], dotted: str, text: str) -> Any:
    known = settable()
    if dotted not in known:
        raise UsageError(f"--{dotted}: no such option; {did_you_mean(dotted, known)}")
    name, *rest = path
    value = _set(getattr(part, name), rest, dotted, text) if rest else _parsed(known[dotted][0], dotted, text)
    return replace(part, **{name: value})


def _parsed(kind: Any, dotted: str, text: str) -> Any:
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if text not in choices:
            raise UsageError(f"--{dotted}: {text!r} is not a choice; {did_you_mean(text, choices)}")
        return text
    if dotted == "network.lineage" and text not in LINEAGES:
        raise UsageError(f"--{dotted}: {text!r} is no lineage; {did_you_mean(text, LINEAGES)}")
    words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        expected = {int: "a whole number", float: "a number", bool: "yes or no"}.get(kind, "something else")
        raise UsageError(f"--{dotted}: {text!r} is not {expected}") from None


def _build(kind: Any, value: Any) -> Any:
    """A value of `kind` (a dataclass, a tuple or a plain kind) from what JSON gives."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} has no fields")
        if unknown := set(value) - {field.name for field in fields(kind)}:
            raise ValueError(f"fields {sorted(unknown)}")
        return kind(**{name: _build(hints[name], each) for name, each in value.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is not a list")
        inner = get_args(kind)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        return tuple(_build(one, each) for one, each in zip(kinds, value, strict=True))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{value!r}")
        return value
    plain = (int, float) if kind is float else kind
    if not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{value!r} is not {kind.__name__}")
    return value
