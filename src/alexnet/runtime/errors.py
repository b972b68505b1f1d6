"""What can go wrong for a user, each with the exit code the command line promises.

0 done   1 a defect of ours   2 wrong usage   3 bad input   4 the machine   5 training diverged   6 another process lost
129 / 130 / 143 SIGHUP / Ctrl-C / SIGTERM, the run saved and resumable
"""

import errno
import os


class AlexNetError(Exception):
    """A fault the user can mend, told in one line: `what: is wrong; what to do`."""

    exit_code = 1


class UsageError(AlexNetError):
    """An unknown verb, recipe, option or value."""

    exit_code = 2


class BadInputError(AlexNetError):
    """A file, folder or run that is missing, damaged or does not fit."""

    exit_code = 3


class MachineError(AlexNetError):
    """Disk full, read-only folder, missing package, folder in use."""

    exit_code = 4


class DivergedError(AlexNetError):
    """The loss, a weight or a probability is no longer finite."""

    exit_code = 5


class PeerError(AlexNetError):
    """Another process of the same run is lost, or ended with an error of its own, whose exit code this one takes over.

    silent   whether that process has said why, where this one would say it again
    """

    exit_code = 6

    def __init__(self, message: str, exit_code: int = 6, silent: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.silent = exit_code, silent


class Interrupted(AlexNetError):  # noqa: N818  (an ending, not an error)
    """A signal asked for the end; the run is saved. `exit_code` is 128 + the signal, as shells expect."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def understood(error: BaseException, where: str) -> AlexNetError | None:
    """The error in a user's words, and with the exit code that goes with it; None for what is a defect of ours, or none
    at all. What the operating system refuses is told of the file that it names, else of `where`."""
    if isinstance(error, AlexNetError):
        return error
    if isinstance(error, MemoryError) or _of_pytorchs_memory(error):
        return MachineError(
            "memory: not enough; end other programs, or give this one less at a time (train: a smaller "
            "--parallel.portion)"
        )
    if isinstance(error, OSError):
        remedy = "check its permissions" if error.errno in (errno.EACCES, errno.EPERM) else _remedy(error)
        return MachineError(f"{error.filename or where}: cannot be used: {_said(error)}; {remedy}")
    return None


def _of_pytorchs_memory(error: BaseException) -> bool:
    """A GPU's, or a processor's, which is told in words alone."""
    of_a_gpu = type(error).__name__ == "OutOfMemoryError"
    return of_a_gpu or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def explain_os_error(error: OSError, path: str | os.PathLike[str]) -> MachineError:
    """The operating system's refusal to write `path`, with its remedy."""
    return MachineError(f"{path}: cannot write: {_said(error)}; {_remedy(error)}")


def _said(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _remedy(error: OSError) -> str:
    return {
        errno.ENOSPC: "free some space, or choose another folder",
        errno.EDQUOT: "free some space, or choose another folder",
        errno.EFBIG: "raise the file size limit (ulimit -f), or choose another folder",
        errno.EROFS: "choose a folder that can be written",
        errno.EACCES: "choose a folder that can be written",
        errno.EPERM: "choose a folder that can be written",
        errno.ENOTDIR: "part of this path is a file; choose another folder",
    }.get(error.errno or 0, "see the operating system's message")
