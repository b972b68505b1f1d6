"""WebDataset: what a shard, a sample or a list of classes must not be, each named in one line."""

import gzip
import io
import tarfile

import pytest
from alike import PIXEL
from tars import refusal, sample, shard, tar

from alexnet.data.layouts import patterns
from alexnet.data.layouts.patterns import expanded
from alexnet.data.layouts.webdataset import read_webdataset
from alexnet.runtime.errors import BadInputError

WHOLE = (*sample("c", 0), *sample("d", 0), *sample("e", 1), *sample("f", 1))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.png", PIXEL)], "sample a: no label in .cls or .json, found .png"),
        ([("x/a.png", PIXEL), ("x/a.txt", b"1")], "sample x/a: no label in .cls or .json, found .png, .txt"),
        ([("a.cls", b"1"), ("a.txt", b"1")], "sample a: no picture, found .cls, .txt"),
        ([("a.png", PIXEL), ("a.jpg", PIXEL), ("a.cls", b"1")], "sample a: has .png, .jpg"),
        ([("a.l.png", PIXEL), ("a.r.png", PIXEL), ("a.cls", b"1")], "sample a: has .l.png, .r.png"),
        ([("a.png", PIXEL), ("a.x.cls", b"1"), ("a.y.cls", b"2")], "sample a: has .x.cls, .y.cls"),
        ([*sample("a", 1), *sample("b", 0), *sample("a", 0)], "a.png: is in it twice"),
        ([("a.png", PIXEL), ("a.PNG", PIXEL), ("a.cls", b"1")], "a.PNG: is in it twice"),
        (sample("a", "bee"), "a.cls: holds b'bee', no class's number"),
        (sample("a", -1), "a.cls: holds b'-1'"),
        (sample("a", "1.0"), "a.cls: holds b'1.0'"),
        (sample("a", "1_0"), "a.cls: holds b'1_0'"),
        (sample("a", "\u0661"), "a.cls: holds b'\\xd9\\xa1'"),
        (sample("a", "1 " * 50), "a.cls: holds b'1 1 "),
        (sample("a", ""), "a.cls: holds b''"),
        (sample("a", "1" * 10), "a.cls: holds b'1111111111'"),
        ([("a.png", PIXEL), ("a.cls", b" " * 2**20 + b"1")], "a.cls: is too large for a label (1,048,577 bytes)"),
        ([("a.png", PIXEL), ("a.json", b"{")], "a.json: is no JSON"),
        ([("a.png", PIXEL), ("a.json", b"\xff")], "a.json: is no JSON"),
        ([("a.png", PIXEL), ("a.json", b"[" * 100_000)], "a.json: is no JSON"),
        ([("a.png", PIXEL), ("a.json", b"[1]")], "a.json: no class's number as label, cls, class_id, found list"),
        ([("a.png", PIXEL), ("a.json", b'{"label": "bee", "id": 7}')], "class_id, found label, id"),
        ([("a.png", PIXEL), ("a.json", b'{"label": true}')], "a.json: no class's number"),
        ([("a.png", PIXEL), ("a.json", b'{"label": 1.0}')], "a.json: no class's number"),
        ([("a.png", PIXEL), ("a.json", b'{"label": -1}')], "a.json: no class's number"),
        ([("a.png", PIXEL), ("a.cls", b"x"), ("a.json", b'{"label": 1}')], "a.cls: holds b'x'"),
    ],
)
def test_a_sample_that_cannot_be_learned_from_is_named(tmp_path, members, said):
    file = tar(tmp_path / "train-0.tar", *WHOLE, *members)
    message = refusal(tmp_path)
    assert message.startswith(f"{file}: ") and said in message
    assert refusal(file) == message


def test_classes_and_labels_have_to_fit(tmp_path):
    file = shard(tmp_path / "train.tar", 0, 0, 1, 1, 3, 3)
    assert "class 2 has no pictures" in refusal(tmp_path)
    shard(file, 0, 0, 1, 1, 2**20)
    assert "label 1048576" in refusal(tmp_path) and "class 2" in refusal(tmp_path)
    shard(file, 0, 0, 0)
    assert "1 class" in refusal(tmp_path)
    shard(file, 0, 0, 1, 1, 2, 2)
    (tmp_path / "classes.json").write_text('["ant", "bee"]')
    assert refusal(tmp_path).startswith(f"{file}/0004: label 2 is beyond the 2 classes")
    (tmp_path / "classes.json").write_text('["ant", "bee", "cat", "dog"]')
    assert "class dog has no pictures" in refusal(tmp_path)
    (tmp_path / "classes.json").write_text('["ant", "bee", "cat"]')
    shard(tmp_path / "val.tar", 0, 3)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'val.tar'}/0001: label 3 is beyond the 3 classes")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.json", b'{"ant": 0, "bee": 1}'),
        ("classes.json", b"[0, 1]"),
        ("classes.json", b'["ant", "bee"'),
        ("classes.json", b"[" * 100_000),
        ("classnames.txt", b"ant\n\nbee\n"),
        ("classes.txt", b"\xff\n\xfe\n"),
        ("classes.txt", b""),
    ],
)
def test_what_is_no_list_of_classes_is_named(tmp_path, file, content):
    shard(tmp_path / "train.tar", *[0, 1] * 5)
    (tmp_path / file).write_bytes(content)
    assert refusal(tmp_path).startswith(f"{tmp_path / file}: ")


def test_a_shard_that_is_no_whole_tar_is_named(tmp_path):
    file = shard(tmp_path / "train-0.tar", *[0, 1] * 5)
    whole = file.read_bytes()
    for content in (b"", b"not a tar" * 100, whole[: len(whole) // 2 + 100], gzip.compress(whole)):
        file.write_bytes(content)
        assert refusal(tmp_path).startswith(f"{file}: ")
    tar(file, ("nothing", b""))
    assert f"no samples in {file.name}" in refusal(tmp_path)
    link = tarfile.TarInfo("a.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(link)
    file.write_bytes(content.getvalue())
    assert "symbolic link" in refusal(tmp_path)


def test_a_shard_or_folder_that_is_missing_is_named(tmp_path):
    for number in (0, 2):
        shard(tmp_path / f"train-{number}.tar", *[0, 1] * 5)
    assert refusal(tmp_path / "train-{0..2}.tar").startswith(f"{tmp_path / 'train-1.tar'}: no such file")
    assert refusal(tmp_path / "train-7.tar").startswith(f"{tmp_path / 'train-7.tar'}: no such file")
    assert refusal(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'}: ")
    (tmp_path / "empty").mkdir()
    assert "no tar shards" in refusal(tmp_path / "empty")


def test_shards_of_one_name_in_one_split_are_refused(tmp_path):
    for folder in ("train", "training"):
        shard(tmp_path / folder / "0.tar", *[0, 1] * 5)
    assert "2 files 0.tar in one split" in refusal(tmp_path)


def test_splits_without_one_to_learn_from_are_refused(tmp_path):
    for split in ("val", "test"):
        shard(tmp_path / f"{split}.tar", *[0, 1] * 5)
    assert "val, test and none to learn from" in refusal(tmp_path)
    assert len(read_webdataset(str(tmp_path / "val.tar")).held_out) == 2


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a{0..2}", ["a0", "a1", "a2"]),
        ("a{008..011}", ["a008", "a009", "a010", "a011"]),
        ("a{8..11}", ["a10", "a11", "a8", "a9"]),
        ("a{00..1}", ["a00", "a01"]),
        ("{b,a}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{a{0..1},b{0..2}}", ["a0", "a1", "b0", "b1", "b2"]),
        ("a{3..1}", ["a1", "a2", "a3"]),
        ("a{,b}", ["a", "ab"]),
        ("a{0..1", ["a{0..1"]),
    ],
)
def test_a_pattern_stands_for_names(pattern, names):
    assert expanded(pattern) == names


@pytest.mark.parametrize("pattern", ["a{}", "a{b}", "a{0..}", "a{0..b}", "a{0..4..2}", "a{-1..3}"])
def test_braces_that_stand_for_nothing_are_refused(pattern):
    with pytest.raises(BadInputError, match="neither a range nor a list"):
        expanded(pattern)


def test_a_pattern_stands_for_a_bounded_number_of_names(monkeypatch):
    monkeypatch.setattr(patterns, "MANY", 1000)
    assert len(expanded("{0..999}")) == 1000
    for pattern in ("{0..1000}", "{0..999999999999}", "{0..999}{0..9999}"):
        with pytest.raises(BadInputError, match="more than 1,000 names"):
            expanded(pattern)
