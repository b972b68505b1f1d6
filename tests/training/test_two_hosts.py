"""Two machines, each a network namespace with an address of its own, that torchrun trains across; what befalls them.

Needs the right to make network namespaces, and minutes: `ALEXNET_TWO_HOSTS=1 pytest tests/training/test_two_hosts.py`.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from resuming import differing, left

HOSTS = ("alexnet-0", "alexnet-1")
NAMES = Path("/etc/netns")  # `ip netns exec` lays a host's files over those of /etc
ADDRESSES = ("10.73.0.1", "10.73.0.2")
STATED = 150.0  # seconds: 30 of silence, 5 of grace, torchrun's 30 for a frozen process; 100 until a link is dead
RETRIES = 8  # of a packet that nobody acknowledges: 100 s, the least that RFC 1122 advises; Linux has 15, 924 s

pytestmark = pytest.mark.skipif(
    not os.environ.get("ALEXNET_TWO_HOSTS") or not shutil.which("ip"), reason="asked for by ALEXNET_TWO_HOSTS=1"
)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def hosts():
    """Two namespaces joined by one link."""
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)
        ip("netns", "add", host)
        ip("-n", host, "link", "set", "lo", "up")
        ip("netns", "exec", host, "sysctl", "-qw", f"net.ipv4.tcp_retries2={RETRIES}")
    ip("link", "add", "link-a", "netns", HOSTS[0], "type", "veth", "peer", "name", "link-b", "netns", HOSTS[1])
    for host, link, address in zip(HOSTS, ("link-a", "link-b"), ADDRESSES, strict=True):
        ip("-n", host, "address", "add", f"{address}/24", "dev", link)
        ip("-n", host, "link", "set", link, "up")
        (NAMES / host).mkdir(parents=True, exist_ok=True)
        (NAMES / host / "hosts").write_text("".join(
            f"{known} {name} {name}.alexnet\n" for known, name in zip(ADDRESSES, HOSTS, strict=True)
        ) + "127.0.0.1 localhost\n")  # fmt: skip
    yield
    for host in HOSTS:
        shutil.rmtree(NAMES / host)
        subprocess.run(f"ip netns pids {host} | xargs -r kill -9", shell=True, check=False)
        ip("netns", "delete", host)


def on(host, *command):
    """How to run a command on one host, under its name."""
    return [
        "ip",
        "netns",
        "exec",
        host,
        "unshare",
        "--uts",
        "sh",
        "-c",
        f'hostname {host} && exec "$@"',
        host,
        *command,
    ]


def start(number, folder, words, restarts=0):
    """torchrun on one host, one process there."""
    host, torchrun = HOSTS[number], str(Path(sys.executable).with_name("torchrun"))
    command = on(
        host, torchrun, "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", f"{HOSTS[0]}:29400", "--rdzv-id", "run", "--max-restarts", str(restarts),
        "-m", "--", "alexnet", *[str(word) for word in words],
    )  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / f"{host}.log").open("w") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def workers(number):
    """The process numbers of the training processes on one host."""
    found = subprocess.run(["ip", "netns", "pids", HOSTS[number]], check=True, capture_output=True, text=True)
    numbers = [int(pid) for pid in found.stdout.split()]
    return [pid for pid in numbers if b"torchrun" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_for(path, epoch):
    """Until the run has judged an epoch."""
    end = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b'"judging"') < epoch:
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def words(pictures):
    numbers = ("--learning.epochs", 60, "--learning.batch", 5, "--learning.rate", 0.002)
    return ("train", pictures, "--recipe", "cifar-18pct", "--quiet", *numbers, "--run")


@pytest.fixture
def straight(hosts, words, tmp_path):
    """An undisturbed run over both."""
    path = tmp_path / "straight"
    both = [start(number, tmp_path, [*words, path]) for number in (0, 1)]
    assert [each.wait(300) for each in both] == [0, 0], said(tmp_path)
    return left(path)


def said(folder):
    return "".join(file.read_text() for file in sorted(folder.glob("*.log")))


def ended(both, folder):
    began = time.monotonic()
    codes = [each.wait(STATED) for each in both]
    print(f"ended after {time.monotonic() - began:.1f} s")
    return codes, [line for line in said(folder).splitlines() if line.startswith("alexnet train:")]


def kill(number):
    for pid in workers(number):
        os.kill(pid, signal.SIGKILL)


def freeze(number):
    for pid in workers(number):
        os.kill(pid, signal.SIGSTOP)


def cut(number):
    ip("-n", HOSTS[number], "link", "set", f"link-{'ab'[number]}", "down")


@pytest.mark.parametrize("fault", [kill, freeze, cut])
def test_a_lost_host_ends_the_run_within_the_stated_time_and_is_named(hosts, words, tmp_path, fault):
    path = tmp_path / "run"
    both = [start(number, tmp_path, [*words, path]) for number in (0, 1)]
    wait_for(path / "journal.jsonl", 3)
    fault(1)
    codes, lines = ended(both, tmp_path)
    assert all(codes), "both sides say that the run did not end well"
    lost = [line for line in lines if "error: rank 1 (on " in line or "ended with rank 1" in line]
    assert any("no longer answers" in line for line in lost), said(tmp_path)
    assert (path / "checkpoints").exists() and any((path / "checkpoints").iterdir())


def test_a_lost_first_host_takes_the_store_along_and_the_other_says_so(hosts, words, tmp_path):
    path = tmp_path / "run"
    both = [start(number, tmp_path, [*words, path]) for number in (0, 1)]
    wait_for(path / "journal.jsonl", 3)
    subprocess.run(f"ip netns pids {HOSTS[0]} | xargs kill -9", shell=True, check=True)
    codes, lines = ended(both, tmp_path)
    assert all(codes), "both sides say that the run did not end well"
    (line,) = lines
    assert f"error: rank 1 (on {HOSTS[1]}): " in line and "no longer answers" in line, said(tmp_path)


def test_a_host_that_comes_back_goes_on_with_the_others(straight, words, tmp_path, monkeypatch):
    """As a pod that is replaced: it is told to resume, the other is not."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    path = tmp_path / "run"
    both = [start(number, tmp_path, [*words, path], restarts=3) for number in (0, 1)]
    wait_for(path / "journal.jsonl", 3)
    subprocess.run(f"ip netns pids {HOSTS[1]} | xargs kill -9", shell=True, check=True)
    both[1].wait()
    time.sleep(5)
    both[1] = start(1, tmp_path, [*words, path, "--resume"], restarts=3)
    assert [each.wait(300) for each in both] == [0, 0], said(tmp_path)
    assert differing(left(path), straight) == []


def test_after_a_killed_process_it_goes_on_by_itself_and_the_result_is_right(straight, words, tmp_path):
    path = tmp_path / "run"
    both = [start(number, tmp_path, [*words, path], restarts=2) for number in (0, 1)]
    wait_for(path / "journal.jsonl", 3)
    kill(1)
    assert [each.wait(300) for each in both] == [0, 0], said(tmp_path)
    assert differing(left(path), straight) == []


def example(language):
    """The example in the documentation, with a small recipe instead of the paper's."""
    text = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text()
    (block,) = re.findall(rf"\n{language}:.*?```\w*\n(.*?)```", text, re.DOTALL)
    instead = "--recipe cifar-18pct --quiet --learning.epochs 3"
    assert block.count("--recipe paper --parallel.towers 2") == 1
    return block.replace("--recipe paper --parallel.towers 2", instead)


def test_the_slurm_example_trains_on_both_and_goes_on_when_it_is_queued_again(hosts, pictures, tmp_path):
    """`srun` and `scontrol` stand in for Slurm's: the command once on each host, and the hosts' names."""
    commands = {
        "scontrol": f"printf '%s\\n' {' '.join(HOSTS)}",
        "srun": "\n".join([*(f'{shlex.join(on(host))} "$@" &' for host in HOSTS), "wait %1 && wait %2"]),
    }
    for name, script in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "alexnet-[0-1]"}
    paths = {"SHARED": str(tmp_path), "STORE": str(pictures)}
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | slurm | paths | {"PATH": path, "OMP_NUM_THREADS": "1"}
    (tmp_path / "job.sh").write_text(example("Slurm"))
    for _ in range(2):
        done = subprocess.run(
            ["bash", tmp_path / "job.sh"], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "runs" / "7" / "result.json").exists()


def test_the_kubernetes_example_trains_on_both(hosts, pictures, tmp_path):
    """Its `sh -c` on both hosts, which have the names that a headless Service and an Indexed Job give."""
    (script,) = re.findall(r"- >-\n(.*?)\n {10}\w", example("Kubernetes"), re.DOTALL)
    script = " ".join(line.strip() for line in script.splitlines())
    script = script.replace("/shared", str(tmp_path)).replace("/store", str(pictures))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    pods = [subprocess.Popen(on(host, "sh", "-c", script), env=environment) for host in HOSTS]
    assert [pod.wait(300) for pod in pods] == [0, 0]
    assert (tmp_path / "run" / "result.json").exists()
