"""What every process of the tests begins with: their servers import it once, and fork."""

from contextlib import suppress

import torch._dynamo  # noqa: F401 - DDP imports it, and with it a second's worth of others

import alexnet.command_line.train
import alexnet.runtime.pulse
import alexnet.training.train  # noqa: F401

with suppress(ImportError):
    from numba.core.registry import cpu_target

    for context in (cpu_target.typing_context, cpu_target.target_context):
        context.refresh()  # as Numba does when it first looks for machine code: another half of a second
