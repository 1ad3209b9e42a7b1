"""Every architecture against llama.cpp, on small random models in f32."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from support import cli, peer
from support.divergence import open_logits

WRITER = Path(cli.BINARY).with_name("write_tiny_gguf")
VOCABULARY = 320
PROMPT, FORCED = 150, 10

# What write_tiny_gguf is told.
MODELS = {
    "llama": ["architecture=llama"],
    "qwen2": ["architecture=qwen2", "f32:rope.freq_base=1000000"],
    "qwen3": ["architecture=qwen3", "head_dim=32"],
}


def write_model(path, arguments):
    subprocess.run([str(WRITER), str(path), f"vocabulary={VOCABULARY}",
                    "layers=3", *arguments], check=True)
    return path


def logits_of_both(model, ids, folder):
    """Rows after the last prompt token and each forced one: ours, theirs."""
    prompt = cli.write_ids(folder / "prompt.json", ids[:PROMPT])
    forced = cli.write_ids(folder / "forced.json", ids[PROMPT:])
    done = cli.call("run", "-m", model, "--compute", "f32",
                    "--kv", "full,type=f32", "--prompt-tokens", prompt,
                    "--force-tokens", forced, "--logits", folder / "ours")
    assert done.returncode == 0, done.stderr
    peer.ask(ids, "logits_f32", PROMPT - 1, folder / "theirs", model=model)
    return [open_logits(folder / who, VOCABULARY) for who in ("ours", "theirs")]


def assert_close(ours, theirs):
    """Within a thousandth of the largest logit, in every row."""
    assert ours.shape == theirs.shape == (FORCED + 1, VOCABULARY)
    error = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)
    print(f"largest error {error.max():.1e} of the largest logit")
    assert error.max() < 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_llama_cpp(name, tmp_path):
    model = write_model(tmp_path / "model.gguf", MODELS[name])
    ids = np.random.default_rng(1).integers(3, VOCABULARY, PROMPT + FORCED)
    assert_close(*logits_of_both(model, ids.tolist(), tmp_path))
