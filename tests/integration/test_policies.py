"""Every preset on the real model, through the command."""

import json
import re

import pytest

from support import cli

pytestmark = pytest.mark.smoke

PROFILE = {
    "version": 1,
    "heads": [
        [(cli.KV_HEADS * layer + head) / 90 for head in range(cli.KV_HEADS)]
        for layer in range(cli.LAYERS)
    ],
}


def presets():
    """The names that --help lists."""
    text = " ".join(cli.call("run", "--help").stdout.split())
    return re.search(r"policies: ([a-z0-9, -]+?) \[full\]", text)[1].split(", ")


def spec_of(preset, folder):
    if preset == "full":
        return preset
    if preset != "duo-attention":
        return f"{preset},keep=0.5"
    path = folder / "heads.json"
    path.write_text(json.dumps(PROFILE))
    return f"{preset},profile={path},keep=0.5"


def test_help_lists_the_presets():
    assert len(presets()) == 18
    assert presets()[0] == "full"


@pytest.mark.parametrize("number", range(18))
def test_run_accepts_every_preset(number, ids_512, tmp_path):
    """The budget is met, bytes fall, and the answer goes on past the slack."""
    preset = presets()[number]
    done = cli.call_json(
        "run", "--prompt-tokens", ids_512, "-n", 70, "--ignore-eos",
        "--kv", spec_of(preset, tmp_path),
    )  # fmt: skip
    kv = done["kv"]
    assert len(done["tokens"]) == 70
    assert kv["policy"] == preset
    assert kv["tokens_seen"] == 512 + 69
    if preset == "full":
        assert kv["bytes"] >= kv["bytes_full"]
        return
    if preset == "infinigen":  # nothing is lost, two layers are whole
        assert kv["tier"]["entries"] + kv["entries_kept"] == 90 * 581
        return
    assert kv["bytes"] < 0.75 * kv["bytes_full"]
    assert 256 <= kv["tokens_kept_mean"] <= 256 + 69


@pytest.mark.parametrize(
    "kv, named",
    [
        ("kvzip,keep=0.5,prefill=streaming", ("prefill=streaming", "kvzip")),
        (
            "snapkv,tokens=64,heads=adaptive,positions=renumber",
            ("positions=renumber", "heads=adaptive"),
        ),
        (
            "snapkv,tokens=64,type=bf16,positions=renumber",
            ("positions=renumber", "type_k=bf16"),
        ),
        ("h2o,keep=0.5,window=8", ("window", "h2o")),
        ("snapkv,keep=0.5,decay=0.9", ("decay", "snapkv")),
        ("duo-attention,keep=0.5,profile=/nowhere.json", ("/nowhere.json",)),
    ],
)
def test_wrong_combinations_name_both(kv, named):
    cli.assert_refused(cli.call("run", "-p", "a", "-n", 1, "--kv", kv), 2, *named)
