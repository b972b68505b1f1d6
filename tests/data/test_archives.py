"""A tar file read in place: every member where it lies, and each oddity refused by name."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from alexnet.data.archives import Archive, open_tar
from alexnet.runtime.errors import BadInputError

NAMES = [f"class {number % 7}/{number}.jpg" for number in range(60)]
CONTENTS = {name: name.encode() * (number * 37 % 101) for number, name in enumerate(NAMES)}


def described(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar_of(*members, kind=tarfile.GNU_FORMAT):
    """A tar's bytes; a member is a name and its content, or a TarInfo."""
    file = io.BytesIO()
    with tarfile.open(mode="w", fileobj=file, format=kind) as tar:
        for member in members:
            info, content = (member, b"") if isinstance(member, tarfile.TarInfo) else (described(member[0]), member[1])
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pictures.tar"
    path.write_bytes(tar_of(*CONTENTS.items()))
    return path


def refusal(path):
    with pytest.raises(BadInputError) as told:
        open_tar(path)
    assert str(told.value).startswith(f"{path}: ") and "; " in str(told.value)
    return str(told.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_each_member_is_where_the_table_says(tmp_path, kind):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(*CONTENTS.items(), kind=kind))
    tar, whole = open_tar(path), path.read_bytes()
    assert tar.names == NAMES and len(tar) == 60
    assert tar.offsets.dtype == tar.sizes.dtype == np.int64
    for number in np.random.default_rng(1).permutation(60):
        content = CONTENTS[NAMES[number]]
        assert tar.read(number) == content
        assert whole[tar.offsets[number] :][: tar.sizes[number]] == content
        assert tar.called(number) == f"{path}: {NAMES[number]}"


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_and_script_are_kept(tmp_path, kind):
    names = ["deep/" * 60 + "x" * 300, "bee\nqueen.jpg", "日本 🐢/1.jpg", os.fsdecode(b"caf\xe9/\xff.jpg")]
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(*((name, name.encode("utf-8", "surrogateescape")) for name in names), kind=kind))
    tar = open_tar(path)
    assert tar.names == names
    assert [tar.read(number) for number in range(4)] == [os.fsencode(name) for name in names]
    assert tar.called(1) == f"{path}: bee\nqueen.jpg"


def test_folders_and_what_is_hidden_are_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    hidden = ["a/.DS_Store", "__MACOSX/a/1.jpg", "a/__MACOSX/1.jpg", ".git/HEAD", "./._1.jpg"]
    folders = [described(name, type=tarfile.DIRTYPE) for name in (".", "a", "a/b")]
    kept = ["./a/1.jpg", "./2.jpg", "a//b/3.jpg", "a/__4__.jpg"]
    path.write_bytes(tar_of(*folders, *((name, b"x") for name in hidden + kept)))
    assert open_tar(path).names == ["a/1.jpg", "2.jpg", "a/b/3.jpg", "a/__4__.jpg"]
    path.write_bytes(tar_of(*folders))
    assert open_tar(path).names == []


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (described("a/l.jpg", type=tarfile.SYMTYPE, linkname="1.jpg"), "symbolic link"),
        (described("a/l.jpg", type=tarfile.LNKTYPE, linkname="a/1.jpg"), "hard link"),
        (described("a/l.jpg", type=tarfile.CHRTYPE), "device"),
        (described("a/l.jpg", type=tarfile.BLKTYPE), "device"),
        (described("a/l.jpg", type=tarfile.FIFOTYPE), "FIFO"),
        (described("a/l.jpg", type=b"M"), "unknown kind"),
        (described("a/l.jpg", type=tarfile.GNUTYPE_SPARSE), "sparse"),
        (described("/etc/l.jpg"), "absolute"),
        (described("../l.jpg"), "name with .."),
        (described("a/../../l.jpg"), "name with .."),
        (described("a/.."), "name with .."),
        (described("/a", type=tarfile.DIRTYPE), "absolute"),
    ],
)
def test_what_is_no_plain_file_below_the_folder_is_refused_by_name(tmp_path, member, fault):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(("a/1.jpg", b"x"), member, ("a/2.jpg", b"x")))
    message = refusal(path)
    assert message.startswith(f"{member.name}: ") and fault in message


SPARSE = ({"map": "0,1", "size": "9"}, {"size": "9"}, {"major": "1", "minor": "0", "name": "s.jpg", "realsize": "9"})


@pytest.mark.parametrize("headers", [{f"GNU.sparse.{name}": form[name] for name in form} for form in SPARSE])
def test_a_sparse_member_in_the_newer_forms_is_refused_by_name(tmp_path, headers):
    file, path = io.BytesIO(), tmp_path / "a.tar"
    with tarfile.open(mode="w", fileobj=file, format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(described("s.jpg", pax_headers=headers, size=512), io.BytesIO(b"1\n0\n1\n".ljust(512, b"\0")))
    path.write_bytes(file.getvalue())
    assert refusal(path).startswith("s.jpg: is a sparse file")


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(("a", b"1"), ("b", b"1"), ("./b", b"2")))
    assert refusal(path).startswith("b: is in it twice")


def test_an_archive_that_was_cut_short_anywhere_is_refused(file):
    whole = file.read_bytes()
    end = 512 * -(-(int(open_tar(file).offsets[-1]) + len(CONTENTS[NAMES[-1]])) // 512)
    for length in [*range(0, end + 512, 512), *range(1, end + 512, 1999)]:
        file.write_bytes(whole[:length])
        refusal(file)
    file.write_bytes(whole[: end + 512])
    assert open_tar(file).names == NAMES, "one block of zeros ends it"


def test_a_member_that_reaches_beyond_the_end_is_named(file):
    tar = open_tar(file)
    os.truncate(file, int(tar.offsets[40]) + 1)
    assert refusal(file).startswith(f"{NAMES[40]}: reaches beyond the archive's end")


def test_a_damaged_header_is_no_end(file):
    place = int(open_tar(file).offsets[30]) - 512
    content = bytearray(file.read_bytes())
    content[place + 5] ^= 1
    file.write_bytes(content)
    with tarfile.open(file) as lenient:
        assert len(lenient.getnames()) == 30, "the control: half of the members would be missing in silence"
    assert refusal(file).startswith(f"damaged or cut short at byte {place:,} ")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("size", [-512, -(1 << 40), 1 << 40])
def test_a_size_that_cannot_be_neither_loops_nor_fills_the_memory(tmp_path, kind, size):
    path = tmp_path / "a.tar"
    odd = described("odd.jpg", type=kind, size=size).tobuf(tarfile.GNU_FORMAT)
    for before in (b"", tar_of(("a/1.jpg", b"x"))[:1024]):
        path.write_bytes(before + odd + bytes(2048))
        refusal(path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory_is_not_read(tmp_path, kind):
    path = tmp_path / "a.tar"
    path.write_bytes(described("odd.jpg", type=kind, size=1 << 30).tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 1 << 31)  # a hole, nothing on the disk
    assert f"a header of {1 << 30} bytes" in refusal(path)


def test_a_chain_of_headers_without_end_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(described("p", type=tarfile.XHDTYPE).tobuf(tarfile.PAX_FORMAT) * 5000 + bytes(1024))
    assert refusal(path).startswith("is no tar file")


def test_a_compressed_tar_is_refused_with_the_command_that_helps(file):
    content = file.read_bytes()
    zipped = {"gzip": gzip.compress(content), "bzip2": bz2.compress(content), "xz": lzma.compress(content)}
    for program, compressed in (zipped | {"zstd": b"\x28\xb5\x2f\xfd" + content}).items():
        file.write_bytes(compressed)
        assert refusal(file).startswith(f"is compressed; decompress it first ({program} -dc")


def test_what_is_no_tar_or_not_there_is_named(tmp_path):
    for name, content in (("empty", b""), ("text", b"not a tar" * 100), ("short", b"x")):
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name).startswith("is no tar file")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        assert refusal(path).startswith("is not a regular file")
    assert refusal(tmp_path / "nowhere").startswith("no such file")


def test_a_tar_in_a_tar_is_read_where_it_lies(tmp_path):
    path = tmp_path / "outer.tar"
    inner = [tar_of(*list(CONTENTS.items())[start::2]) for start in (0, 1)]
    path.write_bytes(tar_of(("even.tar", inner[0]), ("odd.tar", inner[1]), ("after.txt", b"after")))
    outer = open_tar(path)
    for start in (0, 1):
        tar = outer.inside(start)
        assert tar.names == NAMES[start::2]
        assert [tar.read(number) for number in range(30)] == [CONTENTS[name] for name in NAMES[start::2]]
        assert tar.called(2) == f"{path}: {outer.names[start]}: {NAMES[start + 4]}"
        assert tar.archive is outer.archive, "one open file for all"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (tar_of(("1.jpg", b"x" * 5000))[:1024], "1.jpg: reaches beyond the archive's end"),
        (tar_of(("1.jpg", b"x"))[:1024], "damaged or cut short at byte 1,536 "),
        (tar_of(described("1.jpg", type=tarfile.SYMTYPE, linkname="2.jpg")), "1.jpg: is a symbolic link"),
        (gzip.compress(tar_of(), mtime=0), "is compressed"),
        (b"", "is no tar file"),
    ],
)
def test_the_fault_of_a_tar_in_a_tar_is_named_with_both(tmp_path, content, fault):
    path = tmp_path / "outer.tar"
    path.write_bytes(tar_of(("in.tar", content), ("next.tar", tar_of(("2.jpg", b"x")))))
    with pytest.raises(BadInputError) as told:
        open_tar(path).inside(0)
    assert str(told.value).startswith(f"{path}: in.tar: {fault}")


def test_many_threads_read_through_one_file_that_is_opened_once(file, monkeypatch):
    tar = open_tar(file)
    opened, meeting, really = [], Barrier(16), os.open
    fresh = Archive(file)

    def counted(path, flags, *more):
        opened.append((path, flags))
        for _ in range(1000):  # the others' turn: without a lock they would open it too
            os.sched_yield()
        return really(path, flags, *more)

    def read(thread):
        meeting.wait()
        order = np.random.default_rng(thread).permutation(60).tolist()
        return all(fresh.read(int(tar.offsets[i]), int(tar.sizes[i]), "") == CONTENTS[NAMES[i]] for i in order)

    monkeypatch.setattr(os, "open", counted)
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(16)))
    assert [path for path, _ in opened] == [file]
    assert opened[0][1] & os.O_CLOEXEC


def test_the_file_is_closed_with_its_last_reader(file):
    tar = open_tar(file)
    descriptor = tar.archive._opened()
    assert os.path.samestat(os.fstat(descriptor), file.stat())
    del tar
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_an_archive_that_is_cut_short_while_it_is_read_is_named_with_the_member(file):
    tar = open_tar(file)
    os.truncate(file, int(tar.offsets[40]) + 1)
    assert tar.read(39) == CONTENTS[NAMES[39]]
    with pytest.raises(BadInputError) as told:
        tar.read(40)
    assert str(told.value).startswith(f"{file}: {NAMES[40]}: ") and "cut short" in str(told.value)


def test_the_headers_that_were_read_are_not_kept(file, monkeypatch):
    kept, really = [], tarfile.TarFile.next

    def counted(tar):
        kept.append(len(tar.members))
        return really(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    open_tar(file)
    assert len(kept) > 60 and max(kept) <= 1


def test_contents_are_skipped_and_nothing_is_written(tmp_path, monkeypatch, largest_file):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(*((f"{number}.jpg", bytes(1_000_000)) for number in range(5))))
    read, really = [], os.pread

    def counted(file, size, offset):
        read.append(size)
        return really(file, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    with largest_file(0):
        tar = open_tar(path)
        assert sum(read) < 10_000
        assert tar.read(3) == bytes(1_000_000)
    assert list(tmp_path.iterdir()) == [path]
