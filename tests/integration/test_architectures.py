"""Every architecture against llama.cpp: small random models in f32, whose
logits agree to a few units in the last place, and Gemma 3 270M."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydoc_data import topics

from support import cli, peer
from support.divergence import compare, open_logits

WRITER = Path(cli.BINARY).with_name("write_tiny_gguf")
VOCABULARY = 320
PROMPT, FORCED = 150, 10
Q8_0 = 8  # ggml's number of that type

GEMMA3 = ["architecture=gemma3", "layers=7", "sliding_window=32",
          "head_dim=32", "kv_heads=1", "f32:rope.freq_base=1000000",
          "f32:rope.scaling.factor=8"]
# Rotates three quarters of a head; its context of 256 is beyond the original.
PHI3 = ["architecture=phi3", "rope_dims=12", "rope_factor_pair=1",
        "u32:rope.scaling.original_context_length=64",
        "f32:rope.scaling.attn_factor=1.25"]
# What converters write beside the factor, the default attention factor (0.1 ln 4
# + 1) among it, and other values that llama.cpp does not read for these.
YARN = ["str:rope.scaling.type=yarn", "f32:rope.scaling.factor=4",
        "u32:rope.scaling.original_context_length=64",
        "f32:rope.scaling.yarn_attn_factor=1.1386294",
        "f32:rope.scaling.yarn_ext_factor=0.5",
        "f32:rope.scaling.yarn_beta_fast=8",
        "f32:rope.scaling.yarn_beta_slow=2"]
# Where llama.cpp looks GELU up in a table of f16, ours is exact: gates beyond
# +-10, which it leaves alone, show that all else agrees.
SATURATED = ["ffn_norm=1e5"]
EXACT, F16_GELU = 2e-5, 2e-3  # of the largest logit

# What write_tiny_gguf is told, and the tolerance.
MODELS = {
    "llama": (["architecture=llama"], EXACT),
    "qwen2": (["architecture=qwen2", "f32:rope.freq_base=1000000"], EXACT),
    "qwen3": (["architecture=qwen3", "head_dim=32"], EXACT),
    "gemma3": (GEMMA3, F16_GELU),
    "gemma3_saturated": (GEMMA3 + SATURATED, EXACT),
    "gemma3_pattern": (GEMMA3 + SATURATED + [
        "u32:attention.sliding_window_pattern=2",
        "f32:rope.freq_base_swa=5000", "f32:final_logit_softcapping=2"],
        EXACT),
    "phi3": (PHI3, EXACT),
    "phi3_short": (PHI3 + ["u32:rope.scaling.original_context_length=256"],
                   EXACT),
    "phi3_plain": (["architecture=phi3", "sliding_window=32"], EXACT),
    "gemma3_global": (["architecture=gemma3", *SATURATED], EXACT),
    "llama_yarn": (["architecture=llama", *YARN], EXACT),
    "llama_yarn_attn_factor": (["architecture=llama", *YARN,
                                "f32:rope.scaling.attn_factor=1.25"], EXACT),
    "qwen2_yarn": (["architecture=qwen2", *YARN], EXACT),
    "qwen3_yarn": (["architecture=qwen3", "head_dim=32", *YARN], EXACT),
    "gemma3_yarn": (GEMMA3 + SATURATED + YARN, EXACT),
    "phi3_yarn": (PHI3[:2] + YARN, EXACT),
}

# Keys that must change what a model computes: none is read in vain.
KEYS = {
    "qwen3": ["f32:rope.freq_base=5000"],
    "phi3": ["u32:rope.scaling.original_context_length=256",
             "f32:rope.scaling.attn_factor=1", "rope_dims=16",
             "rope_factor_pair=0"],
    "llama_yarn": ["str:rope.scaling.type=linear",
                   "f32:rope.scaling.factor=2",
                   "u32:rope.scaling.original_context_length=4096"],
    "gemma3": ["u32:attention.sliding_window=33",
               "u32:attention.sliding_window_pattern=5",
               "f32:rope.freq_base=500000", "f32:rope.freq_base_swa=5000",
               "f32:rope.scaling.factor=4", "f32:final_logit_softcapping=2"],
}


def write_model(path, arguments):
    subprocess.run([str(WRITER), str(path), f"vocabulary={VOCABULARY}",
                    *arguments], check=True)
    return path


def our_logits(model, ids, folder, prompt, *options):
    """A file of rows after the last prompt token and each forced one."""
    done = cli.call("run", "-m", model, "--prompt-tokens",
                    cli.write_ids(folder / "prompt.json", ids[:prompt]),
                    "--force-tokens",
                    cli.write_ids(folder / "forced.json", ids[prompt:]),
                    "--logits", folder / "ours", *options)
    assert done.returncode == 0, done.stderr
    return folder / "ours"


def exact_logits(model, ids, folder):
    """Of a random model, in f32 throughout."""
    file = our_logits(model, ids, folder, PROMPT, "--compute", "f32", "--kv",
                      "full,type=f32")
    return open_logits(file, VOCABULARY).copy()


def distance(ours, theirs):
    """The largest difference, in parts of the largest logit of its row."""
    assert ours.shape == theirs.shape == (FORCED + 1, VOCABULARY)
    return (np.abs(ours - theirs).max(axis=1) /
            np.abs(theirs).max(axis=1)).max()


@pytest.fixture(scope="module")
def random_ids():
    ids = np.random.default_rng(1).integers(3, VOCABULARY, PROMPT + FORCED)
    return ids.tolist()


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_llama_cpp(name, random_ids, tmp_path):
    arguments, tolerance = MODELS[name]
    model = write_model(tmp_path / "model.gguf", arguments)
    ours = exact_logits(model, random_ids, tmp_path)
    peer.ask(random_ids, "logits_f32", PROMPT - 1, tmp_path / "theirs",
             model=model)
    error = distance(ours, open_logits(tmp_path / "theirs", VOCABULARY))
    print(f"largest error {error:.1e} of the largest logit")
    assert error < tolerance


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gemma3", "phi3"])
def test_default_compute_on_8_bit_weights(name, random_ids, tmp_path):
    """Nearer to f32 on the same weights than llama.cpp is."""
    arguments = [*MODELS[name][0], f"weight_type={Q8_0}"]
    model = write_model(tmp_path / "model.gguf", arguments)
    exact = exact_logits(model, random_ids, tmp_path)
    ours = our_logits(model, random_ids, tmp_path, PROMPT)
    peer.ask(random_ids, "logits", PROMPT - 1, tmp_path / "theirs",
             model=model)
    ours, theirs = [compare(exact, open_logits(file, VOCABULARY)).kl
                    for file in (ours, tmp_path / "theirs")]
    print(f"KL to f32: ours {ours:.1e}, llama.cpp's {theirs:.1e}")
    assert ours < theirs


@pytest.mark.parametrize("name", KEYS)
def test_every_key_matters(name, random_ids, tmp_path):
    arguments, tolerance = MODELS[name]
    model = write_model(tmp_path / "model.gguf", arguments)
    before = exact_logits(model, random_ids, tmp_path)
    for key in KEYS[name]:
        model = write_model(tmp_path / "other.gguf", [*arguments, key])
        after = exact_logits(model, random_ids, tmp_path)
        assert distance(after, before) > 10 * EXACT, key


GEMMA = cli.ROOT / "models" / "gemma3-270m.gguf"
GEMMA_VOCABULARY = 262144
GEMMA_CONTEXT, GEMMA_FORCED = 1000, 500  # its window is 512


def top10_overlap(a, b):
    """Mean share of the ten likeliest tokens that two rows have in common."""
    tops = [np.argpartition(-rows, 10, axis=1)[:, :10] for rows in (a, b)]
    return np.mean([len(set(x) & set(y)) / 10 for x, y in zip(*tops)])


@pytest.mark.slow
@pytest.mark.skipif(not GEMMA.exists(),
                    reason="script/bootstrap --models fetches Gemma 3 270M")
def test_gemma3_270m(tmp_path):
    text = "\n".join(topics.topics[name] for name in ("compound", "objects"))
    ids, = peer.ask([text], "tokenize", model=GEMMA)
    ids = ids[:GEMMA_CONTEXT + GEMMA_FORCED]
    assert len(ids) == GEMMA_CONTEXT + GEMMA_FORCED
    files = [our_logits(GEMMA, ids, tmp_path, GEMMA_CONTEXT),
             tmp_path / "theirs"]
    peer.ask(ids, "logits", GEMMA_CONTEXT - 1, files[1], model=GEMMA)
    try:
        ours, theirs = [open_logits(file, GEMMA_VOCABULARY) for file in files]
        found = compare(theirs, ours)
        overlap = top10_overlap(theirs, ours)
    finally:
        for file in files:  # 525 MB each; pytest keeps its folders
            file.unlink(missing_ok=True)
    print(f"\nKL {found.kl:.6f}, top-1 equal {100 * found.top1_equal:.2f} %, "
          f"top-10 in common {100 * overlap:.2f} %")
    # llama.cpp quantises activations to 8 bits once: as far from f32 itself.
    assert 0 < found.kl < 0.01
    assert found.top1_equal >= 0.97
    assert overlap >= 0.93
