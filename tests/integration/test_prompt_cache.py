"""--prompt-cache: what a prompt begins with is read once."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from support import cli
from support.cli import assert_refused, call, call_json

USAGE, MODEL = 2, 4
VOCABULARY = 320


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    writer = Path(cli.BINARY).with_name("write_tiny_gguf")
    subprocess.run([writer, path, "context_length=4096", "layers=4"],
                   check=True)
    return path


@pytest.fixture
def ask(model, tmp_path):
    """Runs a prompt of so many ids with the cache file."""
    pick = random.Random(1)
    ids = [pick.randrange(3, VOCABULARY) for _ in range(300)]

    def run(count, *flags, file=tmp_path / "cache"):
        prompt = cli.write_ids(tmp_path / "ids", ids[:count])
        return call_json("run", "-m", model, "--prompt-tokens", prompt, "-n",
                         8, "--ignore-eos", "--prompt-cache", file, *flags)
    return run


def test_the_same_prompt_is_not_read_again(ask, tmp_path):
    first = ask(200)
    assert "restored" not in first and first["prompt_tokens"] == 200
    again = ask(200)
    assert again["restored"]["tokens"] == 200
    assert again["prompt_tokens"] == 0
    assert again["tokens"] == first["tokens"], "the answer is no part of it"


def test_a_longer_prompt_reads_what_is_new(ask, tmp_path):
    ask(200)
    longer = ask(260)
    assert longer["restored"]["tokens"] == 200
    assert longer["prompt_tokens"] == 60
    assert longer["kv"]["tokens_seen"] == 260 + 7
    assert ask(300)["restored"]["tokens"] == 260, "it was written again"
    assert "restored" not in ask(100), "a shorter one does not begin so"
    assert ask(100)["restored"]["tokens"] == 100


def test_another_cache_spec_reads_anew(ask):
    ask(200)
    other = ask(200, "--kv", "snapkv,keep=0.5")
    assert "restored" not in other
    assert other["kv"]["spec"] == "snapkv,keep=0.5"
    assert "restored" in ask(200, "--kv", "snapkv,keep=0.5")


def test_read_only(ask, tmp_path):
    ask(200)
    before = (tmp_path / "cache").read_bytes()
    assert ask(260, "--prompt-cache-ro")["restored"]["tokens"] == 200
    assert (tmp_path / "cache").read_bytes() == before


def test_other_files_stay(ask, model, tmp_path):
    document = tmp_path / "letter.txt"
    document.write_text("Dear reader")
    done = call("run", "-m", model, "-p", "x", "--prompt-cache", document)
    assert_refused(done, USAGE, str(document), "--force")
    assert document.read_text() == "Dear reader"
    ask(100)
    done = call("run", "-p", "x", "--prompt-cache", tmp_path / "cache")
    assert_refused(done, MODEL, "another model")
