"""A folder of files, here or behind a URL; what lies elsewhere is fetched whole, once, when it is first asked for."""

import errno
import os
from hashlib import sha256
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from alexnet.runtime.commit import flush, temporary
from alexnet.runtime.errors import AlexNetError, BadInputError, MachineError, explain_os_error


def is_url(source: str) -> bool:
    """`s3://bucket/photos`, `https://...`, `memory://...`."""
    return "://" in source


def cache_folder() -> Path:
    """Where fetched files stay: $ALEXNET_CACHE, or ~/.cache/alexnet."""
    return Path(os.environ.get("ALEXNET_CACHE") or Path.home() / ".cache" / "alexnet")


class Shelf:
    """Files by name, below one folder or URL."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/") if is_url(place) else place
        self.remote = is_url(place)
        self.folder = cache_folder() / sha256(self.place.encode()).hexdigest()[:16] if self.remote else Path(place)
        self._fetching = Lock()

    def name(self, file: str) -> str:
        """What to call one of its files in an error."""
        return f"{self.place}/{file}" if self.remote else str(self.folder / file)

    def has(self, file: str) -> bool:
        """Whether the file is there. Raises BadInputError when the URL cannot be asked, or the name leads elsewhere."""
        if not self.remote:
            return os.path.exists(self.folder / file)
        self._check_below(file)
        if (self.folder / file).exists():
            return True
        try:
            files, root = self._system()
            return bool(files.exists(f"{root}/{file}"))
        except Exception as error:
            raise _explained(self.place, error) from error

    def names(self) -> list[str]:
        """The files that lie directly in it, by name. Raises BadInputError when it cannot be listed."""
        try:
            if not self.remote:
                return sorted(entry.name for entry in os.scandir(self.folder) if entry.is_file())
            files, root = self._system()
            listed = files.ls(root, detail=True)
        except Exception as error:
            raise _explained(self.place, error) from error
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in listed if entry["type"] == "file")

    def file(self, name: str) -> Path:
        """A local path of one file; fetched first if need be. Raises BadInputError when it cannot be, or the name leads
        elsewhere: a stranger has written it."""
        path = self.folder / name
        if not self.remote:
            return path
        self._check_below(name)
        if path.exists():
            return path
        with self._fetching:
            if not path.exists():
                self._fetch(name, path)
        return path

    def _check_below(self, name: str) -> None:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in name:
            raise BadInputError(f"{self.place}: names a file that is not below it, {name}; do not use it")

    def _fetch(self, name: str, path: Path) -> None:
        partial = temporary(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, path.parent) from error
        try:
            files, root = self._system()
            files.get_file(f"{root}/{name}", str(partial))
            flush(partial)
            partial.replace(path)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if not isinstance(error, Exception):
                raise
            raise _explained(self.name(name), error) from error  # each kind of storage has errors of its own

    def _system(self) -> tuple[Any, str]:
        try:
            import fsspec
        except ImportError:
            raise MachineError("fsspec: needed for addresses; pip install 'alexnet[addresses]'") from None
        files, root = fsspec.url_to_fs(self.place)
        return files, str(root).rstrip("/")


def _explained(name: str, error: Exception) -> AlexNetError:
    """What went wrong with an address: each kind of storage has errors of its own."""
    if isinstance(error, AlexNetError):
        return error
    if isinstance(error, ImportError):
        return MachineError(f"{name}: {error}; pip install 'alexnet[addresses]', or what it names")
    ours = isinstance(error, OSError) and str(error.filename or "").startswith(str(cache_folder()))
    if isinstance(error, OSError) and (ours or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)):
        return explain_os_error(error, cache_folder())
    return BadInputError(f"{name}: cannot be fetched ({error}); check the address")
