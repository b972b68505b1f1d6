"""Names of the hub, through its own library: from its cache without a network, and from a hub on this machine.

In processes of their own: the library reads its environment once, when it is imported.
"""

import errno
import json
import os
import subprocess
import sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from rows import write_parquet
from tars import shard

from alexnet.data.layouts.hub import is_hub_name, read_hub
from alexnet.runtime.errors import BadInputError, MachineError

pytest.importorskip("huggingface_hub", reason="the hub's own library is what is asked")

COMMIT, OLDER = "a" * 40, "b" * 40
ASKING = """
import json, sys
from alexnet.data.layouts.hub import read_hub
from alexnet.runtime.errors import AlexNetError

def answer(source):
    try:
        found = read_hub(source)
    except AlexNetError as error:
        return [type(error).__name__, str(error)]
    parts = [[part.labels.tolist(), part.keys[0], part.pixels(0).tolist()] for part in (found.training, found.held_out)]
    return [found.found, found.classes, found.notices, parts]

print(json.dumps({source: answer(source) for source in sys.argv[1:]}))
"""
PIXEL = [[[10, 200, 30]] * 4] * 4


def ask(sources, cache, **environment):
    """What reading each of the sources gives, in another process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_HOME": str(cache), "HF_HUB_CACHE": str(cache), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", ASKING, *sources]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def put(cache, repository, commit, written, revision="main"):
    """Put files into the hub's cache as it does: content under its digest, links to it in the commit's folder."""
    home = cache / f"datasets--{repository.replace('/', '--')}"
    (home / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(commit)
    (home / "blobs").mkdir(exist_ok=True)
    for file in (path for path in sorted(written.rglob("*")) if path.is_file()):
        blob = home / "blobs" / sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        link = home / "snapshots" / commit / file.relative_to(written)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """Data sets as their owners uploaded them."""
    root = tmp_path_factory.mktemp("repositories")
    write_parquet(root / "ants/data/train-00000-of-00002.parquet", [0, 1, 0])
    write_parquet(root / "ants/data/train-00001-of-00002.parquet", [1])
    write_parquet(root / "ants/data/test-00000-of-00001.parquet", [1, 0])
    (root / "ants/README.md").write_text("# Ants")
    (root / "ants/weights.bin").write_bytes(b"much")
    write_parquet(root / "converted/default/train/0000.parquet", [0, 1] * 5)
    write_parquet(root / "several/small/train-00000-of-00001.parquet", [0, 1] * 5)
    write_parquet(root / "several/large/train-00000-of-00001.parquet", [0, 1] * 10)
    shard(root / "shards/train/0.tar", 0, 1, 1)
    shard(root / "shards/test/0.tar", 1, 0)
    (root / "shards/classnames.txt").write_text("ant\nbee\n")
    (root / "neither").mkdir()
    (root / "neither/photos.zip").write_bytes(b"PK")
    return root


@pytest.fixture(scope="module")
def offline(repositories, tmp_path_factory):
    """What each name gives without a network."""
    cache = tmp_path_factory.mktemp("cache")
    for name in ("ants", "several", "shards", "neither"):
        put(cache, f"owner/{name}", COMMIT, repositories / name)
    put(cache, "owner/ants", OLDER, repositories / "converted", "refs/convert/parquet")
    names = ("ants", f"ants@{COMMIT}", "ants@refs/convert/parquet", "ants@v2", "several", "several/large",
             "several/huge", "several/small@main", "shards", "neither", "unknown")  # fmt: skip
    return ask([f"hf:owner/{name}" for name in names], cache, HF_HUB_OFFLINE="1")


def test_parquet_in_the_hubs_cache_is_read(offline):
    found, classes, notices, parts = offline["hf:owner/ants"]
    assert found == "hf:owner/ants, Parquet of the hub's layout, splits test, train"
    assert (classes, notices) == (["ant", "bee"], [])
    assert parts[0] == [[0, 1, 0, 1], "train-00000-of-00002.parquet:row 0", PIXEL]
    assert parts[1] == [[1, 0], "test-00000-of-00001.parquet:row 0", PIXEL]
    assert offline[f"hf:owner/ants@{COMMIT}"][1:] == offline["hf:owner/ants"][1:]


def test_a_revision_or_a_configuration_may_be_named(offline):
    for name, count in (("ants@refs/convert/parquet", 8), ("several/large", 16), ("several/small@main", 8)):
        assert len(offline[f"hf:owner/{name}"][3][0][0]) == count, name
    fault, message = offline["hf:owner/several"]
    assert fault == "BadInputError" and "(large, small)" in message


def test_tar_shards_in_the_hubs_cache_are_read(offline):
    found, classes, _, parts = offline["hf:owner/shards"]
    assert found == "hf:owner/shards, WebDataset of 2 shards"
    assert classes == ["ant", "bee"]
    assert parts == [[[0, 1, 1], "0.tar/0000", PIXEL], [[1, 0], "0.tar/0000", PIXEL]]


def test_what_is_not_in_the_cache_is_told_without_a_network(offline):
    for name in ("ants@v2", "unknown"):
        fault, message = offline[f"hf:owner/{name}"]
        assert fault == "MachineError"
        assert message.startswith(f"hf:owner/{name}: is not whole in the hub's cache")
        assert "\n" not in message and "HF_HUB_OFFLINE" in message


def test_a_data_set_of_other_files_is_refused(offline):
    for name in ("neither", "several/huge"):
        fault, message = offline[f"hf:owner/{name}"]
        assert fault == "BadInputError"
        assert message.startswith(f"hf:owner/{name}: has neither Parquet nor tar shards")
        assert f"hf:owner/{name.partition('/')[0]}@refs/convert/parquet" in message


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as its library asks for: what a revision is, which files it has, the files."""

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            self.tell(*parts[2:4], *parts[4:6])
        elif parts[0] == "datasets" and parts[3] == "resolve":
            self.hand_out(self.server.root.joinpath(parts[2], *parts[5:]))
        else:
            self.answer(404, b"")

    do_HEAD = do_GET  # noqa: N815

    def tell(self, owner, name, what, revision):
        root = self.server.root / name
        if name == "gated":
            self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif name == "broken":
            self.answer(418, b"no\ncoffee")
        elif not root.is_dir():
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif what == "revision":
            self.answer(200, json.dumps({"id": f"{owner}/{name}", "sha": COMMIT}).encode())
        else:
            files = [path for path in sorted(root.rglob("*")) if path.is_file()]
            tree = [{"type": "file", "path": file.relative_to(root).as_posix(), "size": file.stat().st_size,
                     "oid": sha256(file.read_bytes()).hexdigest()[:40]} for file in files]  # fmt: skip
            self.answer(200, json.dumps(tree).encode())

    def hand_out(self, file):
        content = file.read_bytes()
        self.answer(200, content, {"ETag": f'"{sha256(content).hexdigest()[:40]}"', "X-Repo-Commit": COMMIT})

    def answer(self, status, content, headers=()):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def online(repositories, tmp_path_factory):
    """What each name gives with a hub, what that was asked for, and what some give when it is gone."""
    cache = tmp_path_factory.mktemp("cache")
    names = [f"hf:owner/{name}" for name in ("ants", "shards", "gated", "unknown", "ants@v2", "broken", "neither")]
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.root, server.asked = repositories, []
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        there = ask(names, cache, HF_ENDPOINT=endpoint)
        server.shutdown()
    gone = ask(["hf:owner/ants", "hf:owner/other"], cache, HF_ENDPOINT=endpoint)
    return there, [path for path in server.asked if "/resolve/" in path], gone


def test_only_the_pictures_are_fetched_and_only_once(online, offline):
    there, files, gone = online
    assert there["hf:owner/ants"] == offline["hf:owner/ants"] == gone["hf:owner/ants"]
    assert there["hf:owner/shards"] == offline["hf:owner/shards"]
    fetched = {path.partition(f"{COMMIT}/")[2] for path in files}
    assert len(fetched) == 6 and all(name.endswith((".parquet", ".tar", "classnames.txt")) for name in fetched)


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        (
            "gated",
            "BadInputError",
            "is gated; ask for access at https://huggingface.co/datasets/owner/gated, then log in",
        ),
        ("unknown", "BadInputError", "no such data set, or it is private; check the name, or log in"),
        ("ants@v2", "BadInputError", "has no revision v2; name"),
        ("broken", "MachineError", "the hub cannot be asked (Got: "),
        ("neither", "BadInputError", "neither Parquet nor tar"),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_remedy(online, name, fault, said):
    kind, message = online[0][f"hf:owner/{name}"]
    assert kind == fault and message.startswith(f"hf:owner/{name}: ")
    assert said in message and "\n" not in message and "; " in message


def test_a_hub_that_cannot_be_reached_is_told(online):
    kind, message = online[2]["hf:owner/other"]
    assert kind == "MachineError" and "the hub cannot be asked" in message and "\n" not in message


@pytest.mark.parametrize(
    "source",
    ["hf:", "hf:name", "hf:owner/", "hf:owner/name/", "hf:owner/name@", "hf:a/b/c/d", "hf:../name", "hf:owner/name/..",
     "hf:owner/name@../../x", "hf:owner/name@a/../../x", "hf:owner/na me", "hf:owner/name\n", "hf:owner//name",
     "hf:owner/na--me"],
)  # fmt: skip
def test_what_is_no_name_is_refused(source):
    assert is_hub_name(source)
    with pytest.raises(BadInputError, match=r"is no name of a data set.*; write hf:OWNER/NAME"):
        read_hub(source)


def test_a_disk_that_is_full_is_told(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(MachineError, match=r"^hf:owner/name: cannot be fetched \(.*No space left on device\); "):
        read_hub("hf:owner/name")


def test_without_the_library_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MachineError, match=r"^huggingface_hub: .*alexnet\[hub\]"):
        read_hub("hf:owner/name")
    assert not is_hub_name("photos/hf:owner") and not is_hub_name("digits")
