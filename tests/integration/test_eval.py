"""`eval`: its documents, its lines, and going on where it stopped."""

import json
import os
import time

import pytest

from support import cli
from support.cli import assert_refused
from support.schema import NUMBER, OPTIONAL, check

RUN_TIME, USAGE, THRESHOLD, DOES_NOT_FIT = 1, 2, 3, 5
CACHE = {"spec": str, "trials": int, "kv_bytes": NUMBER,
         "kv_bytes_full": NUMBER, "retained_mass": OPTIONAL(NUMBER),
         "context_tokens": NUMBER, "scored_tokens": int, "warnings": [str]}
ANSWERS = CACHE | {"right": int, "right_interval": [NUMBER],
                   "difference": NUMBER, "difference_interval": [NUMBER]}
DIVERGENCE = CACHE | {"mean_kl": NUMBER, "kl_interval": OPTIONAL([NUMBER]),
                      "max_kl": NUMBER, "top1_agreement": NUMBER,
                      "perplexity": NUMBER, "perplexity_full": NUMBER}
DOCUMENT = {"task": str, "variant": OPTIONAL(str), "placement": OPTIONAL(str),
            "model": str, "compute": str, "tokens": int,
            "score_tokens": OPTIONAL(int), "trials": int, "seed": int}
LINE = {"task": str, "model": str, "model_bytes": int, "compute": str,
        "tokens": int, "seed": int, "variant": str, "placement": str,
        "spec": str, "trial": int, "depth": NUMBER, "expected": str,
        "answer": str, "kv_bytes": int, "kv_bytes_full": int,
        "retained_mass": OPTIONAL(NUMBER), "warnings": [str],
        "context_tokens": int, "scored_tokens": int}
SMALL = ["--trials", 2, "--tokens", 300]
SPECS = ["--kv", "snapkv-wide,keep=0.4", "--kv", "snapkv,keep=0.25"]


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def passkey(tmp_path_factory):
    """A small run: its document and its file of trials."""
    path = tmp_path_factory.mktemp("eval") / "trials.jsonl"
    document = cli.call_json("eval", "passkey", *SMALL, *SPECS, "--out", path)
    return document, path


def test_passkey_document(passkey):
    document, _ = passkey
    check(document, DOCUMENT | {"rows": [ANSWERS]})
    assert document["task"] == "passkey"
    assert (document["variant"], document["placement"]) == ("plain", "whole")
    assert (document["tokens"], document["trials"]) == (300, 2)
    full, wide, snap = document["rows"]
    assert full["spec"] == "full", "the reference runs without being asked for"
    assert wide["spec"] == "snapkv-wide,keep=0.4"
    assert full["right"] == 2 and full["difference"] == 0
    assert full["retained_mass"] == 1
    # The question, and all of the answer's beginning but its last token.
    assert 305 < full["context_tokens"] < 325
    assert snap["kv_bytes"] < wide["kv_bytes"] < full["kv_bytes"]
    for row in (full, wide, snap):
        low, high = row["right_interval"]
        assert low <= row["right"] / 2 <= high
        low, high = row["difference_interval"]
        assert low <= row["difference"] <= high
        assert row["difference"] == (row["right"] - full["right"]) / 2


def test_passkey_lines(passkey):
    document, path = passkey
    lines = read_lines(path)
    for line in lines:
        assert isinstance(line.pop("right"), bool)
        check(line, LINE)
    assert [(line["trial"], line["spec"]) for line in lines] == [
        (trial, row["spec"]) for trial in range(2) for row in document["rows"]]
    assert lines[0]["expected"] == lines[1]["expected"] == lines[0]["answer"]
    assert lines[0]["expected"] != lines[3]["expected"]
    assert lines[0]["depth"] != lines[3]["depth"]


def test_table():
    done = cli.call("eval", "passkey", "--variant", "rev", "--placement",
                    "aware", "--trials", 1, "--tokens", 200, *SPECS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "passkey rev, aware placement, contexts of 200 tokens" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "full", "snapkv-wide,keep=0.4", "snapkv,keep=0.25"]
    assert " of 1 |" in lines[4] and " % |" in lines[4]


@pytest.mark.parametrize("cut", [1, 300])
def test_resume(passkey, tmp_path, cut):
    """From a file whose last line is torn, or lacks only its newline."""
    document, path = passkey
    whole = path.read_bytes()
    third = len(b"\n".join(whole.split(b"\n")[:3])) + 1
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(whole[:third + len(whole.split(b"\n")[3]) + 1 - cut])
    again = cli.call_json("eval", "passkey", *SMALL, *SPECS, "--resume", torn)
    assert again == document
    assert torn.read_bytes() == whole
    # With nothing left to do no prompt is read, and more trials add to it.
    more = cli.call_json("eval", "passkey", "--trials", 3, "--tokens", 300,
                         *SPECS, "--resume", torn, "--out", torn)
    assert more["rows"][0]["trials"] == 3
    assert torn.read_bytes().startswith(whole)
    assert len(read_lines(torn)) == 9


def test_resume_without_a_file_begins_one(tmp_path):
    path = tmp_path / "new.jsonl"
    cli.call_json("eval", "needle", "--trials", 1, "--tokens", 200,
                  "--resume", path)
    assert [line["task"] for line in read_lines(path)] == ["needle"]


def test_interrupt_leaves_whole_lines_and_prints_what_was_measured(tmp_path):
    path = tmp_path / "trials.jsonl"
    command = ["eval", "passkey", "--trials", "1000", "--tokens", "200"]

    def until_a_line_is_there(process):
        deadline = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)

    output, log = cli.interrupt([*command, "--out", path],
                                until_a_line_is_there)
    whole = len(read_lines(path)) if path.exists() else 0
    assert b"cancelled" in log
    assert f"interrupted after {whole} of 1000 trials".encode() in log
    assert f"; {whole} trials, seed 0".encode() in output
    assert b"| full | " in output
    assert path.read_bytes().endswith(b"\n")
    assert 1 <= len(read_lines(path)) < 1000


def test_agnostic_compresses_the_context_alone(tmp_path):
    trace = tmp_path / "trace"
    document = cli.call_json("eval", "passkey", "--placement", "agnostic",
                             *SMALL, "--kv", "snapkv,keep=0.3", "--kv-trace",
                             trace)
    lines = read_lines(trace)
    assert len(lines) == 2 * cli.LAYERS * cli.KV_HEADS
    assert {line["spec"] for line in lines} == {"snapkv,keep=0.3"}
    assert {line["step"] for line in lines} == {0}
    assert all(abs(line["seen"] - 300) <= 4 for line in lines)
    assert abs(document["rows"][0]["context_tokens"] - 300) <= 4


def test_needle_is_found():
    document = cli.call_json("eval", "needle", *SMALL, "--depth", "0.2,0.9",
                             "--at-least", 2)
    check(document, DOCUMENT | {"rows": [ANSWERS]})
    assert document["variant"] is None
    assert document["rows"][0]["right"] == 2
    assert document["rows"][0]["scored_tokens"] == 2, "one token each"


def test_kl_document():
    document = cli.call_json("eval", "kl", *SMALL, "--score-tokens", 40,
                             *SPECS, "--kv", "snapkv,keep=1")
    check(document, DOCUMENT | {"rows": [DIVERGENCE]})
    assert (document["variant"], document["placement"]) == (None, None)
    full, wide, snap, one = document["rows"]
    for row in (full, one):
        assert row["mean_kl"] == row["max_kl"] == 0
        assert row["top1_agreement"] == 1
        assert row["perplexity"] == row["perplexity_full"] > 1
    for row in (wide, snap):
        assert 0.001 < row["mean_kl"] < row["max_kl"]
        assert 0.5 < row["top1_agreement"] <= 1
        assert row["kl_interval"][0] <= row["mean_kl"] <= row["kl_interval"][1]
        assert row["context_tokens"] == 300
        assert row["scored_tokens"] == 80


def test_kl_of_a_file(tmp_path):
    """Its trials are pieces of the text, as many as there are."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The {i}th line of a long list of lines.\n"
                            for i in range(60)))
    done = cli.call("eval", "kl", "-f", text, "--tokens", 200,
                    "--score-tokens", 20, "--json")
    assert done.returncode == 0, done.stderr
    trials = json.loads(done.stdout)["trials"]
    assert 2 <= trials <= 4
    assert f"long enough for {trials} of 20 trials" in done.stderr
    short = cli.call("eval", "kl", "-f", text, "--tokens", 2000)
    assert_refused(short, USAGE, "the text has", "a trial takes 2257")


def test_threshold_is_missed():
    """The result is printed all the same."""
    done = cli.call("eval", "kl", "--trials", 1, "--tokens", 200,
                    "--score-tokens", 20, "--kv", "snapkv,keep=0.3",
                    "--max-kl", 0.0001, "--json")
    assert_refused(done, THRESHOLD, "at most 0.0001", "snapkv,keep=0.3 has")
    assert "full has" not in done.stderr
    assert len(json.loads(done.stdout)["rows"]) == 2
    done = cli.call("eval", "passkey", "--trials", 1, "--tokens", 300, "--kv",
                    "snapkv,tokens=33", "--at-least", 1)
    assert_refused(done, THRESHOLD, "at least 1 right", "snapkv,tokens=33 has")


def test_warnings_are_told_once():
    done = cli.call("eval", "passkey", *SMALL, "--kv", "snapkv,keep=0.01")
    assert done.returncode == 0
    assert done.stderr.count("warning: snapkv,keep=0.01: ") == 1


@pytest.mark.parametrize("args, code, named", [
    (["riddle"], USAGE, ["riddle", "passkey"]),
    (["passkey", "--trials", "none"], USAGE, ["--trials", "none"]),
    (["passkey", "--kv", "snapkv,kep=1"], USAGE, ['"kep"']),
    (["passkey", "--tokens", "20"], USAGE, ["20 tokens is too short"]),
    (["passkey", "--tokens", "400", "-c", "300"], DOES_NOT_FIT,
     ["context of 300"]),
    (["passkey", "--tokens", "200", "--kv", "snapkv,tokens=3"], DOES_NOT_FIT,
     ["tokens=3", "least"]),
    (["kl", "-f", "/nonexistent"], USAGE, ["/nonexistent"]),
    (["kl", "--out", "/nonexistent/a"], RUN_TIME, ["/nonexistent/a"]),
])
def test_refused(args, code, named):
    assert_refused(cli.call("eval", *args), code, *named)


def test_resume_from_something_else(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a trial\n")
    done = cli.call("eval", "passkey", *SMALL, "--resume", path)
    assert_refused(done, USAGE, str(path), "line 1")
    assert path.read_text() == "not a trial\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_disk_full():
    done = cli.call("eval", "passkey", *SMALL, "--out", "/dev/full")
    assert_refused(done, RUN_TIME, "/dev/full", "No space left")
