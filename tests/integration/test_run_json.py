"""The documents of --json, key by key, and what shapes an answer."""

import json
import math
import subprocess
import time

import pytest

from support import cli
from support.schema import NUMBER, OPTIONAL, check

pytestmark = pytest.mark.smoke

KV_LAYER = {"layer": int, "budget": OPTIONAL(int), "kept": [int],
            "bytes": int, "retained_mass": OPTIONAL(NUMBER)}
TIER = {"index": str, "entries": int, "bytes": int, "index_bytes": int,
        "file_bytes": int, "fetch_share": OPTIONAL(NUMBER),
        "hit_rate": OPTIONAL(NUMBER), "bytes_per_token": OPTIONAL(NUMBER),
        "read_ms": NUMBER, "stall_ms": NUMBER, "overlap": OPTIONAL(NUMBER)}
KV = {"requested": str, "spec": str, "policy": str, "prefill": str,
      "tokens_seen": int, "tokens_kept_mean": NUMBER, "entries_kept": int,
      "entries_full": int, "bytes": int, "bytes_full": int, "peak_bytes": int,
      "prefill_mass": OPTIONAL(NUMBER),
      "retained_mass": OPTIONAL(NUMBER), "warnings": [str],
      "layers": [KV_LAYER], "tier": OPTIONAL(TIER)}
TIMINGS = {"load_ms": NUMBER, "prefill_ms": NUMBER,
           "ttft_ms": OPTIONAL(NUMBER), "tpot_ms": OPTIONAL(NUMBER),
           "prefill_tokens_per_s": OPTIONAL(NUMBER),
           "decode_tokens_per_s": OPTIONAL(NUMBER)}
RUN = {"model": str, "prompt_tokens": int, "text": str, "tokens": [int],
       "finish_reason": str, "stop_reason": str, "timings": TIMINGS,
       "kv": KV,
       "peak_rss_bytes": int}
LOGPROB = {"id": int, "logprob": NUMBER}
PLAN = {"dims": {"layers": int, "kv_heads": int, "head_dim": int,
                 "tokens": int, "sequences": int, "sliding_window": int},
        "caches": [{"spec": str, "bytes": int, "bytes_full": int,
                    "saved": NUMBER, "warnings": [str],
                    "tier": OPTIONAL({"entries": int, "bytes": int,
                                      "index_bytes": int,
                                      "file_bytes": int}),
                    "layers": [{"layer": int, "budget": OPTIONAL(int),
                                "bytes": int}]}]}
BENCH = {"machine": {"cpu": str, "processors": int, "memory_bytes": int,
                     "threads": int, "compute": str},
         "model": str,
         "rows": [{"spec": str, "prompt_tokens": int, "depth": int,
                   "n_gen": int, "sequences": int,
                   "ttft_ms": NUMBER, "tpot_ms": NUMBER,
                   "prefill_tokens_per_s": NUMBER,
                   "decode_tokens_per_s": NUMBER, "kv_bytes": int,
                   "kv_bytes_full": int, "peak_rss_bytes": int, "runs": int,
                   "tier": OPTIONAL(TIER),
                   "spread": {"ttft_ms": NUMBER, "tpot_ms": NUMBER}}]}

COUNT = "1, 2, 3, 4, 5, 6,"


@pytest.fixture(scope="module")
def compressed(ids_512):
    return cli.call_json("run", "--prompt-tokens", ids_512, "-n", 8,
                         "--ignore-eos", "--logprobs", 3, "-ctk", "f32",
                         "--kv", "pyramidkv,keep=0.50")


def test_run_document(compressed):
    check(compressed, RUN | {"logprobs": [LOGPROB | {"top": [LOGPROB]}]})
    assert compressed["prompt_tokens"] == 512
    assert compressed["finish_reason"] == "length"
    assert len(compressed["tokens"]) == 8
    timings = compressed["timings"]
    assert 0 < timings["prefill_ms"] <= timings["ttft_ms"]


def test_kv_object(compressed):
    kv = compressed["kv"]
    assert kv["requested"].startswith("pyramidkv,keep=0.50")
    assert kv["spec"] == "pyramidkv,keep=0.5,type_k=f32"
    assert (kv["policy"], kv["prefill"]) == ("pyramidkv", "exact")
    # The last token has been sampled but not read.
    assert kv["tokens_seen"] == 512 + 7
    heads = cli.LAYERS * cli.KV_HEADS
    assert kv["entries_full"] == kv["tokens_seen"] * heads
    assert kv["bytes_full"] == kv["tokens_seen"] * cli.BYTES_PER_TOKEN_F16
    assert kv["entries_kept"] == (256 + 7) * heads
    assert kv["tokens_kept_mean"] == pytest.approx(256 + 7)
    layers = kv["layers"]
    assert [layer["layer"] for layer in layers] == list(range(cli.LAYERS))
    assert all(len(layer["kept"]) == cli.KV_HEADS for layer in layers)
    assert sum(sum(layer["kept"]) for layer in layers) == kv["entries_kept"]
    # The pages of all layers, from which free ones may be set aside.
    assert sum(layer["bytes"] for layer in layers) <= kv["bytes"]
    assert kv["bytes"] <= kv["peak_bytes"]
    assert 0.5 < kv["retained_mass"] < 1
    mean = sum(layer["retained_mass"] for layer in layers) / cli.LAYERS
    assert kv["retained_mass"] == pytest.approx(mean, abs=1e-4)


def test_logprobs(compressed):
    """Greedy: each token is the likeliest, and the others come behind."""
    logprobs = compressed["logprobs"]
    assert [entry["id"] for entry in logprobs] == compressed["tokens"]
    for entry in logprobs:
        top = [other["logprob"] for other in entry["top"]]
        assert len(top) == 3
        assert top == sorted(top, reverse=True) and top[0] <= 0
        assert entry["top"][0]["id"] == entry["id"]
        assert entry["top"][0]["logprob"] == entry["logprob"]


def test_no_tokens_only_reads(tmp_path):
    document = cli.call_json("run", "-p", COUNT, "-n", 0, "--logits",
                             tmp_path / "logits")
    check(document, RUN)
    assert document["tokens"] == [] and document["text"] == ""
    assert document["timings"]["ttft_ms"] is None
    assert document["kv"]["tokens_seen"] == document["prompt_tokens"]
    assert (tmp_path / "logits").stat().st_size == 4 * cli.VOCABULARY


def test_stop_string_ends_the_text():
    document = cli.call_json("run", "-p", COUNT, "-n", 40, "-r", ", 9",
                             "-r", "never to be seen")
    assert document["text"] == " 7, 8"
    assert document["finish_reason"] == "stop"
    assert len(document["tokens"]) < 40


def test_text_is_streamed_to_standard_output():
    done = cli.call("run", "-n", 6, stdin=COUNT + "\n")
    assert done.returncode == 0
    assert done.stdout.startswith(" 7, 8")
    note, figures = done.stderr.splitlines()
    assert "after 6 tokens: -n" in note
    assert "read 17 tokens, wrote 6" in figures


def test_plan_document():
    document = cli.call_json("plan", "--ctx", 4096, "--kv", "full",
                             "--kv", "pyramidkv,keep=0.3")
    check(document, PLAN)
    assert document["dims"]["tokens"] == 4096
    full, pyramid = document["caches"]
    assert full["bytes"] == full["bytes_full"] == (
        4096 * cli.BYTES_PER_TOKEN_F16)
    assert pyramid["saved"] == pytest.approx(
        1 - pyramid["bytes"] / pyramid["bytes_full"])
    assert 0.68 < pyramid["saved"] < 0.7
    budgets = [layer["budget"] for layer in pyramid["layers"]]
    assert budgets == sorted(budgets, reverse=True)


@pytest.mark.parametrize("kv_heads, gib", [(8, 2.5), (64, 20)])
def test_plan_of_a_model_that_is_not_there(kv_heads, gib):
    """A model of 70 billion weights, with and without shared KV heads."""
    document = cli.call_json(
        "plan", "--layers", 80, "--kv-heads", kv_heads, "--head-dim", 128,
        "--ctx", 8192, "--type", "f16", "-np", 1)
    check(document, PLAN)
    assert document["caches"][0]["bytes"] == gib * 2**30


def test_bench_document():
    document = cli.call_json("bench", "-p", 64, "-n", 3, "-r", 1,
                             "--kv", "full", "--kv", "snapkv,keep=0.5")
    check(document, BENCH)
    full, snap = document["rows"]
    assert (full["spec"], snap["spec"]) == ("full", "snapkv,keep=0.5")
    assert full["prompt_tokens"] == full["depth"] == 64
    assert snap["kv_bytes"] < full["kv_bytes"]


def test_interrupted_bench_prints_what_it_measured():
    output, _ = cli.interrupt(
        ["bench", "-p", 32, "-n", 1, "-r", 1000, "--json"],
        lambda _: time.sleep(5))  # several runs of a fifth of a second
    (row,) = json.loads(output)["rows"]
    assert 1 <= row["runs"] < 1000 and row["ttft_ms"] > 0


def test_bench_of_several_sequences():
    """Same work for each: the caches add up, and so does the speed."""
    one, three = [
        cli.call_json("bench", "-p", 64, "-n", 3, "-r", 1, "-np", count,
                      "--kv", "snapkv,keep=0.5")["rows"][0]
        for count in (1, 3)]
    assert (one["sequences"], three["sequences"]) == (1, 3)
    for key in ("kv_bytes", "kv_bytes_full"):
        assert three[key] == 3 * one[key]
    assert math.isclose(three["decode_tokens_per_s"],
                        3000 / three["tpot_ms"], rel_tol=1e-6)


def test_chat_from_a_pipe():
    """Every line is a turn, and a turn reads only what is new."""
    lines = ["Say hello.", "/stats", "Say it again.", "/stats"]
    done = cli.call("chat", "-n", 8, "--kv", "snapkv,keep=0.5",
                    stdin="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    read = [int(line.split()[1]) for line in done.stdout.splitlines()
            if line.startswith("read ")]
    assert len(read) == 2
    assert read[1] < read[0], "the system message is not read again"


def test_version():
    done = cli.call("--version")
    assert done.returncode == 0
    first, kernels, libraries = done.stdout.splitlines()
    name, version, commit = first.split(maxsplit=2)
    assert name == "pyramidkv"
    assert [part.isdigit() for part in version.split(".")] == [True] * 3
    assert commit[0] == "(" and commit[-1] == ")" and len(commit) > 4
    assert kernels.startswith("kernels: ")
    assert "llama.cpp " in libraries and "oneDNN " in libraries
    assert cli.call("version").stdout == done.stdout


def test_help():
    """`help COMMAND` is what `COMMAND --help` prints."""
    for command in ("run", "plan", "session", "models", "doctor"):
        done = cli.call("help", command)
        assert done.returncode == 0 and "Examples:\n" in done.stdout
        assert done.stdout == cli.call(command, "--help").stdout
    assert cli.call("help").stdout == cli.call("--help").stdout
    assert "snapkv-wide " in cli.call("help", "presets").stdout


def test_models_and_doctor(tmp_path):
    """From any directory, the user's models; what does not run says why."""
    models = tmp_path / "pyramidkv" / "models"
    models.mkdir(parents=True)
    (models / "default.gguf").symlink_to(cli.MODEL)
    (models / "letter.gguf").write_text("Dear reader")
    env = cli.environment(XDG_DATA_HOME=str(tmp_path))
    del env["PYRAMIDKV_MODEL"]

    def call(*args):
        done = subprocess.run([cli.BINARY, *args, "--json"], text=True,
                              capture_output=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    default, letter = call("models")["models"]
    assert default["runs"] and default["default"]
    assert default["layers"] == cli.LAYERS
    assert not letter["runs"] and "GGUF" in letter["why_not"]
    assert call("run", "-p", "hi", "-n", "1")["model"] == default["name"]
    doctor = call("doctor")
    assert doctor["model"]["path"] == str(models / "default.gguf")
    assert doctor["threads"] >= 1 and doctor["read_bytes_per_s"] > 1e8
    assert {f["kind"] for f in doctor["findings"]} <= {"slow", "memory"}


def test_completion_script():
    script = cli.call("--completion-bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    words = 'COMP_WORDS=(pyramidkv ru); COMP_CWORD=1; "$f"; echo "$COMPREPLY"'
    find = "f=$(complete -p pyramidkv | sed 's/.*-F //; s/ .*//')"
    done = subprocess.run(["bash", "-c", f"{script}\n{find}\n{words}"],
                          capture_output=True, text=True)
    assert done.stdout.strip() == "run", done.stderr
