"""The cold tier from outside: a real model answers from what it fetches, and
nothing is left of the file, however the process ends."""

import os
import signal
import subprocess
import time

import pytest

from support import cli
from support.cli import assert_refused, call, call_json

RUN_TIME, USAGE = 1, 2
DISK = "infinigen,resident=0.25"


def answers(task, specs, trials, *flags):
    """Right answers of the full cache, then of each spec."""
    kv = [flag for spec in specs for flag in ("--kv", spec)]
    rows = call_json("eval", task, "--trials", trials, *kv, *flags)["rows"]
    return [row["right"] for row in rows]


def test_fetching_a_fifth_answers_as_the_full_cache():
    full, memory, disk = answers("needle", ["infinigen", DISK], 6)
    assert full >= 5
    assert memory == disk
    assert abs(memory - full) <= 1


def test_offloading_recalls_what_dropping_loses():
    """The question comes after the context was compressed."""
    spec = "snapkv,keep=0.25"
    full, drop, offload = answers(
        "needle", [spec, f"{spec},remainder=offload"], 6,
        "--placement", "agnostic")
    assert offload >= min(full - 1, drop + 2)


def test_what_it_reports(ids_512, tmp_path):
    document = call_json("run", "--prompt-tokens", ids_512, "-n", 16,
                         "--ignore-eos", "--kv", DISK, "--kv-offload-dir",
                         tmp_path)
    kv = document["kv"]
    tier = kv["tier"]
    heads = 90 - 6  # of 30 layers two are whole
    assert tier["entries"] + kv["entries_kept"] == 90 * (512 + 15)
    assert 0 < tier["fetch_share"] <= 0.2
    assert 0 <= tier["hit_rate"] <= 1
    assert tier["stall_ms"] <= tier["read_ms"] + 1
    assert tier["index"] == "sign"
    # 10 bytes of 256 an entry, and what is resident.
    assert tier["index_bytes"] <= 1.3 * tier["entries"] * 10
    # A last block of its own per head weighs on a text as short as this.
    assert tier["bytes"] < 0.55 * tier["entries"] * 256
    assert tier["file_bytes"] >= (tier["entries"] - 16 * heads) * 256
    assert kv["bytes"] > tier["bytes"]
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_none(ids_512, tmp_path):
    missing = tmp_path / "missing"
    assert_refused(call("run", "--prompt-tokens", ids_512, "--kv", DISK,
                        "--kv-offload-dir", missing), USAGE, str(missing))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_is_read_only(ids_512, tmp_path):
    tmp_path.chmod(0o500)
    assert_refused(call("run", "--prompt-tokens", ids_512, "--kv", DISK,
                        "--kv-offload-dir", tmp_path), RUN_TIME,
                   str(tmp_path))


def kill_readers(ids, directory, rounds):
    """Kills processes while they use their file; how many had one open."""
    had_file = 0
    for i in range(rounds):
        process = subprocess.Popen(
            [cli.BINARY, "run", "-m", cli.MODEL, "--prompt-tokens", ids, "-n",
             "2000", "--ignore-eos", "--kv", DISK, "--kv-offload-dir",
             directory], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        time.sleep(0.3 + 0.1 * (i % 16))
        links = [os.path.realpath(f"/proc/{process.pid}/fd/{fd}")
                 for fd in os.listdir(f"/proc/{process.pid}/fd")]
        had_file += any(str(directory) in link for link in links)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(directory.iterdir())
    return had_file


@pytest.mark.parametrize("rounds", [
    10, pytest.param(300, marks=pytest.mark.slow)])
def test_killed_while_it_is_used(ids_512, tmp_path, rounds):
    assert kill_readers(ids_512, tmp_path, rounds) > rounds / 3


@pytest.mark.slow
def test_acceptance_of_fifty_trials():
    full, memory, disk = answers("needle", ["infinigen", DISK], 50)
    assert memory == disk
    assert memory >= full
    spec = "snapkv,keep=0.25"
    _, drop, offload = answers("needle", [spec, f"{spec},remainder=offload"],
                               50, "--placement", "agnostic")
    assert offload >= min(50, drop + 15)
