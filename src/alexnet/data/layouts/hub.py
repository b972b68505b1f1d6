"""Data sets of the Hugging Face hub by name: fetched once, into the hub's own cache, and read as the files they are."""

import re
from dataclasses import replace
from pathlib import Path

from alexnet.data.layouts.class_names import FILES
from alexnet.data.layouts.parquet import parquet_files, read_parquet
from alexnet.data.layouts.webdataset import looks_like_webdataset, read_webdataset
from alexnet.data.pictures import Dataset
from alexnet.runtime.errors import AlexNetError, BadInputError, MachineError

PREFIX = "hf:"
# The hub's names, without what would lead out of its cache. A revision may have slashes: refs/convert/parquet.
NAME = re.compile(
    r"hf:(?!.*\.\.)(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:/(?P<folder>\w[\w.-]*))?(?:@(?P<revision>\w[\w./-]*))?",
    re.ASCII,
)
PARQUET = ("*.parquet",)
SHARDS = ("*.tar", *(f"*{file}" for file in FILES))


def is_hub_name(source: str) -> bool:
    """Whether `source` names a data set of the hub: `hf:OWNER/NAME`."""
    return source.startswith(PREFIX)


def read_hub(source: str) -> Dataset:
    """Read `hf:OWNER/NAME`, with `/CONFIGURATION` or `@REVISION` or both: its Parquet, or else its tar shards.

    Raises BadInputError when the hub has no such data set, does not give it to you, or it has neither; MachineError
    when the hub cannot be reached, or without huggingface_hub.
    """
    name = NAME.fullmatch(source)
    if name is None:
        raise BadInputError(
            f"{source}: is no name of a data set; write hf:OWNER/NAME, hf:OWNER/NAME/CONFIGURATION or "
            "hf:OWNER/NAME@REVISION"
        )
    folder = _fetched(name, PARQUET)
    if parquet_files(folder):
        dataset = read_parquet(folder)
    elif looks_like_webdataset(str(folder := _fetched(name, SHARDS))):
        dataset = read_webdataset(str(folder))
    else:
        raise BadInputError(
            f"{source}: has neither Parquet nor tar shards there; "
            f"{PREFIX}{name['repository']}@refs/convert/parquet may have them, converted by the hub"
        )
    return replace(dataset, found=f"{source}, {dataset.found}")


def _fetched(name: re.Match[str], patterns: tuple[str, ...]) -> Path:
    """The local folder that has the data set's files of these patterns."""
    try:
        import huggingface_hub
    except ImportError:
        raise MachineError("huggingface_hub: needed for hf: names; pip install 'alexnet[hub]'") from None
    below = f"{name['folder']}/" if name["folder"] else ""
    try:
        folder = huggingface_hub.snapshot_download(
            name["repository"],
            repo_type="dataset",
            revision=name["revision"],
            allow_patterns=[f"{below}{pattern}" for pattern in patterns],
        )
    except Exception as error:  # the network's own, too, which differ from version to version
        raise _explained(name, error) from error
    return Path(folder, below)


def _explained(name: re.Match[str], error: Exception) -> AlexNetError:
    from huggingface_hub import errors

    said = " ".join(str(error).split())
    source = name[0]
    if isinstance(error, errors.HFValidationError):
        return BadInputError(f"{source}: is no name of a data set ({said:.200}); write hf:OWNER/NAME")
    if isinstance(error, errors.GatedRepoError):  # is a RepositoryNotFoundError too
        page = f"https://huggingface.co/datasets/{name['repository']}"
        return BadInputError(f"{source}: is gated; ask for access at {page}, then log in (hf auth login)")
    if isinstance(error, errors.RepositoryNotFoundError):
        return BadInputError(
            f"{source}: the hub has no such data set, or it is private; check the name, or log in (hf auth login)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return BadInputError(f"{source}: has no revision {name['revision']}; name a branch, a tag or a commit of it")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return MachineError(
            f"{source}: is not whole in the hub's cache, and the hub cannot be asked ({said:.200}); "
            "check the network, or take HF_HUB_OFFLINE away"
        )
    return MachineError(f"{source}: cannot be fetched ({said:.200}); see what the hub says, or try again")
