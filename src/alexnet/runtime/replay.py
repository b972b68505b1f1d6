"""Work on a GPU that is the same each time, recorded once and replayed: one launch in place of some hundred.

A step of this network is a millisecond's work for a GPU, and as much for Python, which launches it piece by piece. What
is recorded reads and writes the same memory again and knows no numbers but those it was recorded with: all that differs
from one time to the next must be in the tensors that it is given.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Work = Callable[[Sequence[Tensor]], Tensor]

BEFORE = 3  # times that a kind of work is done launch by launch: libraries choose and compile meanwhile


class OnGpu:
    """CUDA graphs, which share their memory: what one has computed must be taken away before the next is replayed."""

    def __init__(self) -> None:
        self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Where work is done that is to be recorded later; what comes before and after it waits."""
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def record(self, work: Work, given: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What does the work again, and where its result is then."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may reserve memory meanwhile: batches are made ahead.
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            result = work(given)
        return graph.replay, result


class Replayed:
    """Work that is recorded for each kind that comes again and again.

    recorder   does the recording
    say        is told once, in a line, where the work cannot be recorded; it is done launch by launch then
    """

    def __init__(self, recorder: OnGpu, say: Callable[[str], None]) -> None:
        self._recorder, self._say = recorder, say
        self._times: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, tuple[list[Tensor], Callable[[], None], Tensor]] = {}
        self._refused = False

    def __call__(self, kind: Hashable, work: Work, given: Sequence[Tensor]) -> Tensor:
        """What `work` makes of `given`, which it may only read.

        kind   whatever must be the same for the same launches to do the work, but for the tensors' shapes
        """
        kind = kind, *((each.shape, each.dtype) for each in given)
        self._times[kind] += 1
        if not self._refused and kind not in self._recorded and self._times[kind] > BEFORE:
            self._record(kind, work, given)
        if kind not in self._recorded:
            with self._recorder.aside():
                return work(given)
        own, replay, result = self._recorded[kind]
        for ours, theirs in zip(own, given, strict=True):
            ours.copy_(theirs, non_blocking=True)
        replay()
        return result.clone()

    def _record(self, kind: Hashable, work: Work, given: Sequence[Tensor]) -> None:
        own = [each.clone() for each in given]
        try:
            self._recorded[kind] = own, *self._recorder.record(work, own)
        except RuntimeError as error:
            self._refused = True
            reason = str(error).strip().splitlines()[0]
            self._say(f"a step cannot be recorded here ({reason}): the same results, more slowly")
