"""A long prompt's compressed cache, in bytes and in the process."""

import pytest

from support import cli

TOKENS = 8000
FULL, PYRAMID, WIDE = "full", "pyramidkv,keep=0.3", "snapkv-wide,keep=0.3"


@pytest.fixture(scope="module")
def read(long_ids):
    """spec -> what `run --json` says after the prompt; each is read once."""
    documents = {}

    def document(spec):
        if spec not in documents:
            documents[spec] = cli.call_json(
                "run", "--prompt-tokens", long_ids, "--kv", spec, "-n", 0)
        return documents[spec]

    return document


def test_full_cache_is_its_formula(read):
    kv = read(FULL)["kv"]
    assert kv["bytes_full"] == TOKENS * cli.BYTES_PER_TOKEN_F16
    assert kv["bytes"] == kv["bytes_full"], "8,000 tokens are whole pages"


# The second is slow only for its time: it is one more prompt of 8,000 tokens.
@pytest.mark.parametrize("spec", [
    PYRAMID, pytest.param(WIDE, marks=pytest.mark.slow)])
def test_bytes_follow_the_budget(read, spec):
    """Pages and positions cost no more than 1 % on top of the share."""
    kv = read(spec)["kv"]
    entries = TOKENS * cli.LAYERS * cli.KV_HEADS
    assert kv["tokens_seen"] == TOKENS
    assert kv["entries_kept"] == int(0.3 * entries + 0.5)
    assert kv["bytes"] <= 0.31 * kv["bytes_full"]
    assert kv["warnings"] == []


def test_resident_memory_follows_the_bytes(read):
    """What the cache does not hold, the process has given back."""
    full, pyramid = read(FULL), read(PYRAMID)
    saved = full["kv"]["bytes"] - pyramid["kv"]["bytes"]
    fallen = full["peak_rss_bytes"] - pyramid["peak_rss_bytes"]
    print(f"\ncache {saved / 2**20:.0f} MiB smaller, peak RSS "
          f"{fallen / 2**20:.0f} MiB")
    assert fallen >= 0.6 * saved
