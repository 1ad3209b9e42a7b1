"""A context that begins with a few tokens, quantised: as near to f16 as one
that begins with many, also where keys have biases as large as Qwen2's."""

import pytest

from support import cli, peer
from support.divergence import compare, open_logits

QWEN = cli.ROOT / "models" / "qwen2.5-coder-0.5b.gguf"
QWEN_VOCABULARY = 151936
PROMPT, FORCED = 400, 60


def logits_after(ids, first, kv, folder):
    """Rows after a turn of `first` tokens, one of the rest, and forced ones."""
    stored = folder / "stored.session"
    done = cli.call("session", "save", stored, "-m", QWEN, "--kv", kv,
                    "--prompt-tokens",
                    cli.write_ids(folder / "first", ids[:first]))
    assert done.returncode == 0, done.stderr
    done = cli.call("run", "-m", QWEN, "--load-session", stored,
                    "--prompt-tokens",
                    cli.write_ids(folder / "rest", ids[first:PROMPT]),
                    "--force-tokens",
                    cli.write_ids(folder / "forced", ids[PROMPT:]),
                    "--logits", folder / "logits")
    assert done.returncode == 0, done.stderr
    rows = open_logits(folder / "logits", QWEN_VOCABULARY).copy()
    for file in (stored, folder / "logits"):
        file.unlink()
    return rows


@pytest.mark.slow
@pytest.mark.skipif(not QWEN.exists(), reason="script/bootstrap --models")
@pytest.mark.parametrize("kv, most", [("full,type=int8", 0.005),
                                      ("full,type=int8,scale=tensor", 0.05)])
def test_divergence_after_a_short_first_turn(kv, most, tmp_path):
    text = (cli.ROOT / "docs" / "policies.md").read_text()
    ids = peer.ask([text], "tokenize", model=QWEN)[0][:PROMPT + FORCED]
    for first in (1, 12, 200):
        exact = logits_after(ids, first, "full", tmp_path)
        kl = compare(exact, logits_after(ids, first, kv, tmp_path)).kl
        print(f"{kv} after {first} tokens: {kl:.5f}")
        assert kl < most, first
