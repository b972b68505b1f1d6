"""Parquet as the hub writes it, in miniature."""

import json

import pytest
from alike import PIXEL

from alexnet.data.pictures import check_learnable
from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads and writes Parquet")


PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def refusal(source):
    with pytest.raises(BadInputError) as told:
        check_learnable(open_dataset(str(source)))
    assert "\n" not in str(told.value) and "; " in str(told.value)
    return str(told.value)


def write_parquet(file, labels, names=("ant", "bee"), picture="image", label="label", **extra):
    """As the hub writes it: encoded pictures beside their path, whole-number labels, names in the schema's metadata."""
    columns = {
        **extra,
        picture: pyarrow.array([{"bytes": PIXEL, "path": f"{row}.png"} for row in range(len(labels))], PICTURE),
        label: pyarrow.array(labels, pyarrow.int64()),
    }
    features = {picture: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), file)


def write_columns(file, **columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), file)
