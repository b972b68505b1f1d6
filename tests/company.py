"""Several processes that work together, each on one thread: forked from a server that has imported everything once."""

import os
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import TCPStore

from alexnet.network.layers import Convolution, FullyConnected
from alexnet.network.lineages import Lineage, lineage
from alexnet.network.towers import Towers
from alexnet.runtime.tensor_file import Stream

LIMIT = float(os.environ.get("ALEXNET_TEST_LIMIT", "300"))  # seconds: a hang is a failure, not a pause

context = get_context("forkserver")
context.set_forkserver_preload(["tests.preloaded"])  # by the folder it starts in: Python 3.11 forgets our path


def small(name: str) -> Lineage:
    """The lineage with an eighth of its kernels and a thirty-second of its units, on smaller images."""
    known = lineage(name)
    layers = []
    for layer in known.layers:
        if isinstance(layer, Convolution):
            layers.append(replace(layer, kernels=layer.kernels // 8))
        elif isinstance(layer, FullyConnected):
            layers.append(replace(layer, outputs=layer.outputs // 32 if layer.outputs == 4096 else 7))
        else:
            layers.append(layer)
    return replace(known, side=99, layers=tuple(layers))


class Company:
    """`world` processes, started at once."""

    def __init__(self, world: int, function: Callable[..., Any], *arguments: Any, **environment: str) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        common = {
            "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.members, self.ends = [], []
        for rank in range(world):
            ours, theirs = context.Pipe(duplex=False)
            own = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | environment
            member = context.Process(target=_member, args=(own, theirs, function, arguments))
            member.start()
            theirs.close()
            self.members.append(member)
            self.ends.append(ours)

    def results(self) -> list[Any]:
        """What the function gave in each."""
        found = []
        for end in self.ends:
            assert end.poll(LIMIT), "a process hangs"
            try:
                found.append(pickle.loads(end.recv_bytes()))
            except EOFError:
                found.append(None)
        codes = self.codes()
        assert codes == [0] * len(codes), codes
        return found

    def codes(self) -> list[int]:
        """How each ended."""
        for member in self.members:
            member.join(LIMIT)
            if member.is_alive():
                member.kill()
                member.join()
        return [member.exitcode for member in self.members]


def together(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(ranks, *arguments)` gives in each of `world` processes."""
    return Company(world, _at_work, function, *arguments).results()


def in_turn(world: int, function: Callable[..., Any], cases: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`together` for each of several cases, by the same processes: starting them takes longer than most cases do."""
    return list(zip(*together(world, _in_turn, function, cases), strict=True))


def stream_of(tensors: Mapping[str, Tensor]) -> Stream:
    """Tensors of one kind that are all here."""
    shapes = {name: tensors[name].shape for name in sorted(tensors)}
    return Stream(next(iter(tensors.values())).dtype, shapes, ((name, tensors[name]) for name in shapes))


def laid_together(towers: Towers, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole network's tensors from what every process has of them: on rank 0, which a file of theirs would tell."""
    stream = towers.stream(own)
    pieces: dict[str, list[Tensor]] = {}
    for name, piece in stream.pieces:
        pieces.setdefault(name, []).append(piece)
    return {name: torch.cat(parts).view(stream.shapes[name]) for name, parts in pieces.items()}


def commanded(folder: Path, world: int, *words: object, change: Callable[[int], None] | None = None) -> Company:
    """`alexnet WORDS` in each of `world` processes; what rank R complains of goes to the file R in `folder`.

    change   is called with the rank before anything else
    """
    folder.mkdir(exist_ok=True)
    return Company(world, _command, folder, [str(word) for word in words], change, ALEXNET_SILENCE_SECONDS="3")


def complaints(folder: Path) -> list[str]:
    """What the ranks complained of, line by line."""
    return [line for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]


def _command(folder: Path, words: list[str], change: Callable[[int], None] | None) -> None:
    from alexnet.command_line import main

    rank = int(os.environ["RANK"])
    for number in (1, 2):
        file = folder / str(rank) if number == 2 else os.devnull
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    if change:
        change(rank)
    sys.exit(main(words))


def _member(environment: dict[str, str], end: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # as pytest has it in its own process
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
    end.send_bytes(pickle.dumps(function(*arguments)))  # by value: a tensor sent as such lives as long as its process
    end.close()


def _in_turn(ranks: Any, function: Callable[..., Any], cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [function(ranks, *case) for case in cases]


def _at_work(function: Callable[..., Any], *arguments: Any) -> Any:
    from alexnet.runtime.pulse import at_work

    with at_work(print) as ranks:
        return function(ranks, *arguments)
