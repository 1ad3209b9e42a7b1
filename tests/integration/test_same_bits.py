"""script/same_bits: equal builds are equal, and every way in which a build may
differ is told."""

import array
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import cli

BIN = Path(cli.BINARY).parent
sys.path.insert(0, str(cli.ROOT / "script"))
import compare_bits  # noqa: E402

CASES = ["weights/tiny-q8/full", "stored/tiny-llama/snapkv,keep=0.3,type=int4"]


def same_bits(old, new, *cases):
    only = [flag for case in cases for flag in ("--only", case)]
    return subprocess.run(
        [cli.ROOT / "script" / "same_bits", *only, "--bin", old, new],
        capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def altered(tmp_path):
    """A folder whose command is ours after a line of shell."""
    def make(line):
        script = tmp_path / "pyramidkv"
        script.write_text(f'#!/bin/bash\n{line}\nexec "{cli.BINARY}" "$@"\n')
        script.chmod(0o755)
        os.symlink(BIN / "write_tiny_gguf", tmp_path / "write_tiny_gguf")
        return tmp_path
    return make


@pytest.mark.smoke
def test_a_build_equals_itself():
    done = same_bits(BIN, BIN, *CASES)
    assert done.returncode == 0, done.stdout
    assert done.stdout == f"{len(CASES)} cases, 0 differ, 0 refused\n"


@pytest.mark.parametrize("line,told", [
    ('set -- "$@" --compute f32', "tokens["),
    ('set -- "${@/#full/streaming-llm,keep=0.9}"', "tokens["),
    ("exit 5", "exit 0, now 5"),
])
def test_a_difference_is_told(altered, line, told):
    done = same_bits(BIN, altered(line), "weights/tiny-q8/full")
    assert done.returncode == 1, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("differs weights/tiny-q8/full")
    assert lines[-1] == "1 cases, 1 differ, 0 refused"
    assert told in lines[0]


def test_what_the_old_build_refuses_is_listed(altered):
    done = same_bits(altered("exit 2"), BIN, "weights/tiny-q8/full")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "refused weights/tiny-q8/full: exit code 2; now exit 0",
        "1 cases, 0 differ, 1 refused"]


@pytest.mark.smoke
def test_logits():
    old = array.array("f", [1, 2, 3, 4])
    new = array.array("f", [1, 2, 3.5, 4])
    assert compare_bits.compare_logits(old.tobytes(), old.tobytes()) is None
    assert compare_bits.compare_logits(old.tobytes(), new.tobytes()) == (
        "1 of 4 values, the first at 2, at most 0.5 apart")
    assert compare_bits.compare_logits(old.tobytes(), new.tobytes()[4:])


@pytest.mark.smoke
def test_kept_sets_in_any_order_of_heads():
    lines = [json.dumps({"layer": 0, "head": head, "step": 0, "seen": 9,
                         "kept_positions": [1, 2 + head]}) + "\n"
             for head in range(2)]
    whole = "".join(lines).encode()
    assert compare_bits.compare_trace(whole, "".join(lines[::-1]).encode()) is None
    other = whole.replace(b"[1, 3]", b"[1, 4]")
    assert "layer 0, head 1" in compare_bits.compare_trace(whole, other)
    assert compare_bits.compare_trace(whole, lines[0].encode())


@pytest.mark.smoke
def test_documents():
    old = '{"tokens": [1], "kv": {"bytes": 7}, "timings": {"load_ms": 3}}\n'
    slower = old.replace("3", "4")
    more = old.replace('"bytes": 7', '"bytes": 7, "new": 1')
    assert compare_bits.compare_stdout(old, slower) is None
    assert compare_bits.compare_stdout(old, more) is None
    assert compare_bits.compare_stdout(old, old.replace("7", "8")) == (
        "kv.bytes: 7, now 8")
    assert compare_bits.compare_stdout(old, old.replace("[1]", "[2]"))
