"""What a GPU is given to work with, without one: who waits for whom."""

from contextlib import contextmanager

import torch

from alexnet.runtime.replay import OnGpu


class Pretended:
    """A stream or an event of no GPU: tells what was asked of it."""

    def __init__(self, told, **_):
        self.told, self.number = told, len(told)

    def record(self, stream):
        self.told.append(("recorded", self))

    def synchronize(self):
        self.told.append(("waited for", self))

    def wait_stream(self, other):
        self.told.append(("waits for what is fetched", self))


def test_what_is_sent_is_fetched_aside_and_python_is_two_ahead_at_most(monkeypatch):
    told, usual = [], Pretended([])

    @contextmanager
    def aside(stream):
        told.append(("fetching", stream))
        yield
        told.append(("fetched", stream))

    def fetched(x, where, non_blocking):
        assert where == "cuda" and non_blocking
        told.append(("to the GPU", x))
        return x.clone()

    for name, instead in (
        ("Stream", lambda: Pretended(told)), ("Event", lambda blocking: Pretended(told)), ("stream", aside),
        ("graph_pool_handle", lambda: 0), ("current_stream", lambda: usual),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, instead)
    for name, instead in (("pin_memory", lambda x: x), ("to", fetched), ("record_stream", lambda x, stream: None)):
        monkeypatch.setattr(torch.Tensor, name, instead)
    recorder, place = OnGpu(), torch.zeros(2)
    for turn in range(5):
        recorder.send([torch.full((2,), float(turn))], [place])
        assert place.tolist() == [turn, turn]
    words = [word for word, _ in told]
    assert words == [*["fetching", "to the GPU", "fetched", "recorded"] * 2,
                     *["waited for", "fetching", "to the GPU", "fetched", "recorded"] * 3]  # fmt: skip
    begun = [each for word, each in told if word == "recorded"]
    assert [each for word, each in told if word == "waited for"] == begun[:3]
    assert len(usual.told) == 5, "what computes waits for what was fetched, each time"
