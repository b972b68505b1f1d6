"""Work on a GPU that is the same each time, recorded once and replayed: one launch in place of some hundred.

A step of this network is a millisecond's work for a GPU, and as much for Python, which launches it piece by piece. What
is recorded reads and writes the same memory again and knows no numbers but those it was recorded with: all that differs
from one time to the next must be in the tensors that it is given. A recording keeps the memory that it computes in.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from alexnet.runtime.errors import MachineError

Work = Callable[[Sequence[Tensor]], Tensor]

BEFORE = 3  # times that a kind of work is done launch by launch: libraries choose and compile meanwhile
AHEAD = 2  # times that Python may be ahead of the GPU: more would only hold memory for what is to be worked with


class OnGpu:
    """CUDA graphs, which share their memory: what one has computed must be taken away before the next is replayed."""

    def __init__(self) -> None:
        self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self._fetching = torch.cuda.Stream()
        self._begun: deque[torch.cuda.Event] = deque()

    def place(self, like: Tensor) -> Tensor:
        """Memory for such a tensor."""
        return torch.empty_like(like, device="cuda")

    def send(self, given: Sequence[Tensor], places: Sequence[Tensor]) -> None:
        """Copy them there. What lies with the processor comes while the GPU still works on what it was given before."""
        if len(self._begun) == AHEAD:
            self._begun.popleft().synchronize()
        usual = torch.cuda.current_stream()
        with torch.cuda.stream(self._fetching):
            here = [each if each.is_cuda else each.pin_memory().to("cuda", non_blocking=True) for each in given]
        usual.wait_stream(self._fetching)
        for each, place in zip(here, places, strict=True):
            place.copy_(each)
            each.record_stream(usual)  # or its memory would be another's as soon as Python lets go of it
        self._begun.append(torch.cuda.Event(blocking=True))
        self._begun[-1].record(usual)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Where work is done that is to be recorded later; what comes before and after it waits."""
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def record(self, work: Work, given: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What does the work again, and where its result is then. Raises RuntimeError where the GPU refuses."""
        graph = torch.cuda.CUDAGraph()
        # cuBLAS keeps the memory that it works in for each stream, until somebody in the process has it given up, as a
        # recording by torch.compile does: what is replayed would write on. Anew, it is of the recording's own memory
        # (pytorch/pytorch, issues 192061 and 193402).
        torch._C._cuda_clearCublasWorkspaces()
        # Other threads may reserve memory meanwhile: batches are made ahead.
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            result = work(given)
        return graph.replay, result


class Replayed:
    """Work that is recorded for each kind that comes again and again."""

    def __init__(self, recorder: OnGpu) -> None:
        self._recorder = recorder
        self._times: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, tuple[list[Tensor], Callable[[], None], Tensor]] = {}

    def __call__(self, kind: Hashable, work: Work, given: Sequence[Tensor]) -> Tensor:
        """What `work` makes of `given` on the GPU.

        kind    whatever must be the same for the same launches to do the work, but for the tensors' shapes
        given   anywhere; only copies of them are worked with

        Raises MachineError where it cannot be recorded.
        """
        kind = kind, *(each.shape for each in given)
        self._times[kind] += 1
        known = self._recorded.get(kind)
        own = known[0] if known else [self._recorder.place(each) for each in given]
        self._recorder.send(given, own)
        if self._times[kind] <= BEFORE:
            with self._recorder.aside():
                return work(own)
        _, replay, result = known or self._record(kind, work, own)
        replay()
        return result.clone()

    def _record(self, kind: Hashable, work: Work, own: list[Tensor]) -> tuple[list[Tensor], Callable[[], None], Tensor]:
        try:
            self._recorded[kind] = own, *self._recorder.record(work, own)
        except RuntimeError as error:
            # The end of a recording that failed raises too, and what it says is that something failed before. What
            # PyTorch keeps of memory is in disorder then: the run does not go on.
            first: BaseException = error
            while first.__context__:
                first = first.__context__
            reason = (str(first).strip() or type(first).__name__).splitlines()[0]
            raise MachineError(
                f"the GPU cannot record a step ({reason}); go on with --resume and a --parallel.portion smaller than "
                "the batch: such steps are not recorded"
            ) from error
        return self._recorded[kind]
