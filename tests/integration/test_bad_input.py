"""What cannot be done is said in one line, with the code for its kind."""

import os
import pty
import signal
import subprocess
import time

import pytest

from support import cli, gguf_patch
from support.cli import assert_refused

pytestmark = pytest.mark.smoke

RUN_TIME, USAGE, MODEL, DOES_NOT_FIT = 1, 2, 4, 5


def run_model(path):
    return cli.call("run", "-m", path, "-p", "hi", "-n", 0)


def test_missing_model(tmp_path):
    path = tmp_path / "none.gguf"
    assert_refused(run_model(path), MODEL, str(path), "no such file")


def test_directory_as_model(tmp_path):
    assert_refused(run_model(tmp_path), MODEL, str(tmp_path), "directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_model(tmp_path):
    path = tmp_path / "secret.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    assert_refused(run_model(path), MODEL, str(path), "ermission")


@pytest.mark.parametrize("content", [b"", b"PK\3\4" * 100])
def test_not_a_gguf(tmp_path, content):
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    assert_refused(run_model(path), MODEL, str(path), "not a GGUF file")


@pytest.mark.parametrize("size", [10, 100, 1_000_000, 3_000_000])
def test_truncated_model(tmp_path, size):
    path = tmp_path / "cut.gguf"
    with open(cli.MODEL, "rb") as file:
        path.write_bytes(file.read(size))
    assert_refused(run_model(path), MODEL, str(path), "truncated")


@pytest.mark.parametrize("patch, named", [
    (gguf_patch.unsupported_architecture, ["'lemma'", "llama"]),
    (gguf_patch.key_of_wrong_type, ["llama.block_count", "f32"]),
    (gguf_patch.tensor_of_wrong_shape, ["blk.0.attn_k.weight", "shape"]),
    (gguf_patch.duplicate_tokens, ["tokenizer.ggml.tokens", "'!' twice"]),
])
def test_damaged_header(tmp_path, patch, named):
    header = patch(gguf_patch.HeaderCopy(cli.MODEL))
    path = header.write(tmp_path / "damaged.gguf")
    assert_refused(run_model(path), MODEL, str(path), *named)


def test_undamaged_header_is_accepted(tmp_path):
    """So it is the damage that the copies above are refused for."""
    path = gguf_patch.HeaderCopy(cli.MODEL).write(tmp_path / "sound.gguf")
    assert run_model(path).returncode == 0


def test_prompt_over_the_context(tmp_path):
    done = cli.call("run", "-p", "one two three four five six", "-c", 4)
    assert done.returncode == DOES_NOT_FIT
    first, *ways = done.stderr.splitlines()
    assert "6 tokens, and the context holds 4" in first
    assert any("-c 518" in way for way in ways)
    raw = cli.call("session", "save", tmp_path / "a.session", "-p",
                   "one two three four five six", "-c", 4)
    assert_refused(raw, DOES_NOT_FIT, "context of 4")


def test_empty_prompt(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for done in (cli.call("run", "-p", ""), cli.call("run", stdin=""),
                 cli.call("run", "-f", empty)):
        assert_refused(done, USAGE, "empty")


def test_prompt_that_is_not_utf8(tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes("caf\u00e9".encode("latin-1"))
    assert_refused(cli.call("run", "-f", path), USAGE, "UTF-8", "iconv")
    assert_refused(cli.call("run", "-f", path, "--verbatim"), USAGE, "UTF-8",
                   "3")


@pytest.mark.parametrize("spec, named", [
    ("pyramid,keep=0.5", ['"pyramid"', "pyramidkv"]),
    ("snapkv,kep=0.5", ['"kep"', '"keep"']),
    ("snapkv,keep=0.5,keep=0.4", ["keep", "twice"]),
    ("snapkv,keep=1.5", ["keep=1.5", "at most 1"]),
    ("snapkv,keep=0", ["keep=0", "above 0"]),
    ("snapkv,keep=half", ["keep=half"]),
    ("snapkv,keep=0.5,tokens=100", ["two budgets"]),
    ("snapkv,keep=0.5,kernel=4", ["kernel=4", "odd"]),
    ("snapkv", ["budget"]),
    ("full,keep=0.5", ["keep", "full"]),
])
def test_bad_cache_spec(spec, named):
    for command in (["run", "-p", "hi"], ["plan"]):
        done = cli.call(*command, "--kv", spec)
        assert_refused(done, USAGE, f'"{spec}"', *named)


def test_budget_below_the_least(ids_512):
    for budget in ("memory=1KiB", "tokens=8"):
        done = cli.call("run", "--prompt-tokens", ids_512, "-n", 0,
                        "--kv", f"snapkv,{budget}")
        assert_refused(done, DOES_NOT_FIT, budget, "least")


@pytest.mark.parametrize("args, named", [
    (["-t", "0"], ["--threads", "0"]),
    (["-t", "many"], ["--threads", "many"]),
    (["--compute", "f64"], ["--compute", "f64"]),
    (["-ctk", "q9"], ["--cache-type-k", "q9"]),
    (["-ctk", "f32", "--kv", "full,type_k=f16"], ["type_k"]),
    (["--frobnicate"], ["--frobnicate"]),
])
def test_bad_flag(args, named):
    assert_refused(cli.call("run", "-p", "hi", *args), USAGE, *named)


def test_bad_command():
    assert_refused(cli.call("walk"), USAGE, '"walk"', "run")


def test_ids_outside_of_the_vocabulary(tmp_path):
    ids = cli.write_ids(tmp_path / "ids.json", [1, 2, cli.VOCABULARY])
    done = cli.call("run", "--prompt-tokens", ids, "-n", 0)
    assert_refused(done, USAGE, str(cli.VOCABULARY))


def test_standard_output_closed():
    """By a reader that has gone away, and from the start."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = cli.call("run", "-p", "hi", "-n", 4, "--json", stdout=pipe)
    assert_refused(done, RUN_TIME, "standard output")
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" run -p hi -n 4 >&-', cli.BINARY], text=True,
        stderr=subprocess.PIPE, env=cli.environment(), timeout=60)
    assert_refused(done, RUN_TIME, "standard output")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_disk_full():
    done = cli.call("run", "-p", "hi", "-n", 4, "--logits", "/dev/full")
    assert_refused(done, RUN_TIME, "/dev/full", "No space left")


def interrupt_prefill(ids):
    """Interrupts when the progress bar shows: exit code, seconds, output."""
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [cli.BINARY, "run", "--prompt-tokens", str(ids)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        env=cli.environment(TERM="xterm"))
    os.close(stderr)
    try:
        shown = os.read(terminal, 4096)
        assert b"%" in shown, shown
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        code = process.wait(timeout=60)
        seconds = time.monotonic() - start
        message = os.read(terminal, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert process.stdout.read() == b""
    process.stdout.close()
    return code, seconds, message


def test_interrupt_in_prefill(long_ids):
    """Within 200 ms: the best of three, since the machine may be busy."""
    best = float("inf")
    for _ in range(3):
        code, seconds, message = interrupt_prefill(long_ids)
        assert code == 130
        assert b"cancelled" in message
        best = min(best, seconds)
        if best <= 0.2:
            break
    assert best <= 0.2
