"""Stored sessions from outside: what goes on where it stopped, what is
refused, and that a file survives whatever happens to its writer."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support import cli
from support.cli import assert_refused, call, call_json

RUN_TIME, USAGE, MODEL, DOES_NOT_FIT = 1, 2, 4, 5
WRITER = Path(cli.BINARY).with_name("write_tiny_gguf")
VOCABULARY = 320
COLD = "snapkv,keep=0.1,remainder=offload,resident=0.01"


def write_model(path, *settings):
    """Infinigen leaves two layers whole."""
    subprocess.run([WRITER, path, "context_length=4096", "layers=4",
                    *settings],
                   check=True)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def ids(tmp_path_factory):
    pick = random.Random(1)
    return cli.write_ids(tmp_path_factory.mktemp("ids") / "prompt.json",
                         [pick.randrange(3, VOCABULARY) for _ in range(400)])


@pytest.fixture(scope="module")
def stored(model, ids, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "a.session"
    done = save(model, ids, path)
    assert done.returncode == 0, done.stderr
    return path


def save(model, ids, path, *flags, **options):
    return call("session", "save", path, "-m", model, "--prompt-tokens", ids,
                "--kv", "snapkv,keep=0.3", *flags, **options)


def damaged(stored, path, offset, flip=1):
    data = bytearray(stored.read_bytes())
    data[offset] ^= flip
    path.write_bytes(data)
    return path


@pytest.mark.smoke
def test_info_and_verify(stored, model, ids):
    info = call_json("session", "info", stored)
    assert info["spec"] == "snapkv,keep=0.3"
    assert info["tokens"] == 400 and info["question_aware"] is True
    assert info["entries"] == round(0.3 * info["entries_full"])
    assert info["generation"] == 1 and info["format_version"] == 3
    assert info["file_bytes"] == stored.stat().st_size
    assert info["tier"] is None
    layers = info["layers"]
    assert [layer["layer"] for layer in layers] == list(range(len(layers)))
    assert sum(sum(layer["kept"]) for layer in layers) == info["entries"]
    assert sum(layer["bytes"] for layer in layers) == info["hot_bytes"]
    assert info["hot_bytes"] == info["bytes"]
    text = call("session", "info", stored).stdout
    for part in (info["session"], "snapkv,keep=0.3", "400 of 4096", "aware"):
        assert part in text
    done = call("session", "verify", stored)
    assert done.returncode == 0 and "ok" in done.stdout
    assert call_json("session", "verify", stored) == info
    assert "checksums alone" in done.stderr, "its model is not the default"
    done = call("session", "verify", stored, "-m", model)
    assert done.returncode == 0 and "ok" in done.stdout
    assert done.stderr == ""


def test_info_of_a_cold_tier(model, ids, tmp_path):
    """What is hot and what is cold, and whether a question chose it."""
    path = tmp_path / "cold.session"
    for kv, word in (("infinigen,resident=0.25", "agnostic"),
                     ("snapkv,keep=0.25,remainder=offload", "aware")):
        done = call("session", "save", path, "-m", model, "--prompt-tokens",
                    ids, "--kv", kv)
        assert done.returncode == 0, done.stderr
        info = call_json("session", "info", path)
        tier = info["tier"]
        assert info["entries"] + tier["entries"] == info["entries_full"]
        assert tier["index"] == "sign" and tier["index_bytes"] > 0
        assert tier["block_bytes"] >= tier["entries"] * 4 * 16
        assert tier["entries"] == sum(sum(layer["cold"])
                                      for layer in info["layers"])
        assert info["file_bytes"] > info["hot_bytes"] + tier["block_bytes"]
        text = call("session", "info", path).stdout
        for part in ("hot ", "cold ", f"{tier['entries']} entries", word):
            assert part in text
        done = call("session", "ask", path, "-m", model, "-n", 4,
                    "--ignore-eos", "-p", "and then")
        assert done.returncode == 0, done.stderr


@pytest.mark.smoke
@pytest.mark.parametrize("kv", ["full", "snapkv-wide,keep=0.3", "h2o,keep=0.3",
                                "kvzip,keep=0.3", "infinigen,resident=0.25",
                                "snapkv,keep=0.25,type=int8,remainder=offload"])
def test_an_answer_goes_on_where_it_stopped(model, ids, tmp_path, kv):
    """Text in one go, and cut by a session in the middle."""
    run = ["run", "-m", model, "--ignore-eos"]
    whole = call_json(*run, "--prompt-tokens", ids, "--kv", kv, "-n", 24)
    path = tmp_path / "cut.session"
    first = call_json(*run, "--prompt-tokens", ids, "--kv", kv, "-n", 10,
                      "--save-session", path)
    assert first["saved"]["tokens"] == 410
    rest = call_json(*run, "--load-session", path, "-n", 14)
    assert rest["restored"]["tokens"] == 410 and rest["prompt_tokens"] == 0
    assert first["tokens"] + rest["tokens"] == whole["tokens"]


@pytest.mark.smoke
def test_one_context_answers_many_questions(model, ids, stored, tmp_path):
    before = stored.read_bytes()
    ask = ["session", "ask", stored, "-m", model, "-n", 8, "--ignore-eos"]
    answers = [call_json(*ask, "-p", q) for q in ("and then", "or else",
                                                  "and then")]
    assert answers[0]["tokens"] == answers[2]["tokens"]
    assert answers[0]["restored"]["tokens"] == 400
    assert stored.read_bytes() == before
    kept = tmp_path / "kept.session"
    call_json(*ask, "-p", "and then", "--save-session", kept)
    info = call_json("session", "info", kept)
    assert info["generation"] == 2
    assert info["session"] == call_json("session", "info", stored)["session"]


@pytest.mark.smoke
def test_many_questions_at_once(model, stored, tmp_path):
    """Each is answered as if it alone were asked, and the file stays."""
    before = stored.read_bytes()
    questions = tmp_path / "questions.txt"
    questions.write_text("and then\n\nor else\r\nand then\n")
    ask = ["session", "ask", stored, "-m", model, "-n", 8, "--ignore-eos"]
    done = call(*ask, "--questions", questions, "--json")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["question"] for a in answers] == ["and then", "or else",
                                                "and then"]
    for answer in answers:
        alone = call_json(*ask, "-p", answer["question"])
        assert answer["tokens"] == alone["tokens"]
        assert answer["restored"]["tokens"] == 400
    text = call(*ask, "--questions", questions).stdout
    assert text.count("> and then\n") == 2 and "> or else\n" in text
    assert stored.read_bytes() == before
    (tmp_path / "none.txt").write_text("\n")
    assert_refused(call(*ask, "--questions", tmp_path / "none.txt"), USAGE,
                   "no question")


@pytest.mark.smoke
def test_another_model_is_refused(stored, tmp_path):
    for settings, named in ((["layers=3"], "tensors"),
                            (["f32:rope.freq_base=5000"], "RoPE"),
                            (["ffn_norm=2"], "weights"),
                            (["vocabulary=330"], "tokenizer")):
        other = write_model(tmp_path / "other.gguf", "context_length=4096",
                            *settings)
        done = call("session", "ask", stored, "-m", other, "-p", "x")
        assert_refused(done, MODEL, str(stored), "another model", named)
        done = call("session", "verify", stored, "-m", other)
        assert_refused(done, MODEL, str(stored), "another model", named)


def test_damage_is_found(stored, model, tmp_path):
    size = stored.stat().st_size
    pick = random.Random(2)
    places = [0, 9, 17, 60, size - 1, size - 20]
    places += [pick.randrange(size) for _ in range(20)]
    for place in places:
        bad = damaged(stored, tmp_path / "bad.session", place,
                      1 << pick.randrange(8))
        assert_refused(call("session", "verify", bad), MODEL, str(bad))
    assert_refused(call("session", "ask", bad, "-m", model, "-p", "x"), MODEL,
                   str(bad))
    for cut in (0, 7, 100, size // 2, size - 1):
        bad.write_bytes(stored.read_bytes()[:cut])
        assert_refused(call("session", "verify", bad), MODEL, str(bad))
    assert_refused(call("session", "info", model), MODEL, "not a session file")


def test_what_cannot_be_written(stored, model, ids, tmp_path):
    assert_refused(save(model, ids, tmp_path), USAGE, "is a directory")
    assert_refused(save(model, ids, "/proc/a.session"), RUN_TIME,
                   "cannot save" if os.geteuid() == 0 else "cannot write")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_directory(stored, model, ids, tmp_path):
    path = tmp_path / "a.session"
    shutil.copy(stored, path)
    tmp_path.chmod(0o500)
    try:
        done = save(model, ids, path)
    finally:
        tmp_path.chmod(0o700)
    assert_refused(done, RUN_TIME, "ermission")
    assert path.read_bytes() == stored.read_bytes()


def test_read_only_file_system(stored, model, ids, tmp_path):
    path = tmp_path / "a.session"
    shutil.copy(stored, path)
    mount = ["unshare", "-m", "sh", "-c",
             'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && '
             'exec "$@"', str(tmp_path)]
    if subprocess.run([*mount, "true"], capture_output=True).returncode != 0:
        pytest.skip("mounting needs rights that we do not have")
    done = subprocess.run(
        [*mount, cli.BINARY, "session", "save", str(path), "-m", str(model),
         "--prompt-tokens", str(ids)],
        capture_output=True, text=True, env=cli.environment())
    assert_refused(done, RUN_TIME, "ead-only")
    assert os.listdir(tmp_path) == ["a.session"]
    assert path.read_bytes() == stored.read_bytes()


def test_full_tmpfs(stored, model, ids, tmp_path):
    """A small disk of its own: the save and the tier's file say that it is
    full, and what was there stays."""
    size = stored.stat().st_size * 3 // 2
    mount = ["unshare", "-m", "sh", "-c",
             f'mount -t tmpfs -o size={size} none "$0" && cp "$1" "$0" && '
             'shift && "$@"; code=$?; cmp "$STORED" "$0/a.session" >&2 || '
             'exit 77; [ "$(ls "$0")" = a.session ] || exit 78; exit $code',
             str(tmp_path)]
    here = tmp_path.parent / "a.session"
    shutil.copy(stored, here)
    env = cli.environment(STORED=str(here))
    if subprocess.run([*mount, str(here), "true"], env=env,
                      capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs rights that we do not have")

    def attempt(*args):
        return subprocess.run([*mount, str(here), cli.BINARY,
                               *map(str, args)], capture_output=True,
                              text=True, env=env)

    done = attempt("session", "save", tmp_path / "a.session", "-m", model,
                   "--prompt-tokens", ids, "--kv", "full,type=f32")
    assert_refused(done, RUN_TIME, str(tmp_path), "No space left")
    done = attempt("run", "-m", model, "--prompt-tokens", ids, "-n", 1, "--kv",
                   COLD, "--kv-offload-dir", tmp_path)
    assert_refused(done, RUN_TIME, str(tmp_path), "No space left")


def test_a_load_onto_a_full_disk(model, ids, tmp_path):
    """A tier that has no room to be restored is an error of this load."""
    path = tmp_path / "cold.session"
    done = call("session", "save", path, "-m", model, "--prompt-tokens", ids,
                "--kv", COLD)
    assert done.returncode == 0, done.stderr
    ask = ["session", "ask", path, "-m", model, "-n", 4, "--ignore-eos"]
    done = call(*ask, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)))
    assert_refused(done, RUN_TIME, "cold tier", "too large")
    assert call_json(*ask)["tokens"]


def test_full_disk(stored, model, ids, tmp_path):
    """A limit of the size of files stands for a disk that is full."""
    path = tmp_path / "a.session"
    shutil.copy(stored, path)
    limit = stored.stat().st_size // 2
    done = save(model, ids, path, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (limit, limit)))
    assert_refused(done, RUN_TIME, str(path), "too large")
    assert os.listdir(tmp_path) == ["a.session"]
    assert path.read_bytes() == stored.read_bytes()


def kill_savers(model, ids, path, kv, rounds):
    """Ends processes at random moments of a save; what is there stays whole.
    How many of them left something behind."""
    pick = random.Random(3)
    cold = path.parent.parent / "cold"
    cold.mkdir()
    assert save(model, ids, path, "-t", 1).returncode == 0
    littered = 0
    for _ in range(rounds):
        saver = subprocess.Popen(
            [cli.BINARY, "session", "save", path, "-m", model,
             "--prompt-tokens", ids, "--kv", kv, "-t", "1",
             "--kv-offload-dir", cold],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=cli.environment())
        while len(os.listdir(path.parent)) == 1 and saver.poll() is None:
            time.sleep(0.001)
        time.sleep(pick.uniform(0, 0.03))
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        littered += len(os.listdir(path.parent)) > 1
        assert not os.listdir(cold)
        done = call("session", "verify", path)
        assert done.returncode == 0, done.stderr
    assert save(model, ids, path).returncode == 0
    assert os.listdir(path.parent) == [path.name]
    return littered


@pytest.mark.parametrize("kv", ["full,type=f32",
                                "infinigen,type=f32,resident=0.1"])
@pytest.mark.parametrize("rounds", [
    15, pytest.param(150, marks=pytest.mark.slow)])
def test_killed_while_saving(tmp_path, kv, rounds):
    """With a model whose session takes long to write."""
    (tmp_path / "sessions").mkdir()
    wide = write_model(tmp_path / "wide.gguf", "kv_heads=4", "head_dim=128")
    pick = random.Random(4)
    ids = cli.write_ids(tmp_path / "long.json",
                        [pick.randrange(3, VOCABULARY) for _ in range(3000)])
    path = tmp_path / "sessions" / "a.session"
    assert kill_savers(wide, ids, path, kv, rounds) > 0, "none was hit"


def test_chat_turns_behind_a_session(tmp_path):
    """A question is a turn of its own, whether the last one ended or not."""
    path = tmp_path / "doc.session"
    done = call("session", "save", path, "--chat", "-p",
                "The key is 31415. Remember it.", "--kv", "full")
    assert done.returncode == 0, done.stderr
    ask = ["session", "ask", path, "--chat", "-p",
           "What is the key? Answer with the number.", "-n", 24]
    first = call_json(*ask, "--save-session", path)
    assert "31415" in first["text"]
    again = call_json(*ask)
    assert again["restored"]["tokens"] > first["restored"]["tokens"]
    assert "31415" in again["text"]


@pytest.mark.slow
def test_acceptance_of_8000_tokens(long_ids, tmp_path):
    """Small files, and the next token long before a prefill would give it."""
    path = tmp_path / "doc.session"
    made = call_json("session", "save", path, "--prompt-tokens", long_ids,
                     "--kv", "snapkv,keep=0.3,type=int8")
    info = made["saved"]
    assert info["tokens"] == 8000
    assert info["bytes"] <= 0.18 * info["bytes_full"]
    assert info["file_bytes"] <= 0.18 * info["bytes_full"]
    asked = call_json("session", "ask", path, "-n", 2, "--ignore-eos")
    timings = asked["timings"]
    restored = (asked["restored"]["ms"] + timings["ttft_ms"]
                + timings["tpot_ms"])
    print(f"prefill {made['timings']['prefill_ms']:.0f} ms, restored and a "
          f"token decoded {restored:.1f} ms")
    assert made["timings"]["prefill_ms"] >= 20 * restored
