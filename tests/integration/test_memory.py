"""A long prompt's compressed cache, in bytes and in the process."""

import pytest

from support import cli

TOKENS = 8000
SPECS = ["full", "pyramidkv,keep=0.3", "snapkv-wide,keep=0.3"]


@pytest.fixture(scope="module")
def documents(long_ids):
    """spec -> what `run --json` says after reading the prompt."""
    return {spec: cli.call_json("run", "--prompt-tokens", long_ids,
                                "--kv", spec, "-n", 0) for spec in SPECS}


def test_full_cache_is_its_formula(documents):
    kv = documents["full"]["kv"]
    assert kv["bytes_full"] == TOKENS * cli.BYTES_PER_TOKEN_F16
    assert kv["bytes"] == kv["bytes_full"], "8,000 tokens are whole pages"


@pytest.mark.parametrize("spec", SPECS[1:])
def test_bytes_follow_the_budget(documents, spec):
    """Pages and positions cost no more than 1 % on top of the share."""
    kv = documents[spec]["kv"]
    entries = TOKENS * cli.LAYERS * cli.KV_HEADS
    assert kv["tokens_seen"] == TOKENS
    assert kv["entries_kept"] == int(0.3 * entries + 0.5)
    assert kv["bytes"] <= 0.31 * kv["bytes_full"]
    assert kv["warnings"] == []


def test_resident_memory_follows_the_bytes(documents):
    """What the cache does not hold, the process has given back."""
    full, pyramid = (documents[spec] for spec in SPECS[:2])
    saved = full["kv"]["bytes"] - pyramid["kv"]["bytes"]
    fallen = full["peak_rss_bytes"] - pyramid["peak_rss_bytes"]
    print(f"\ncache {saved / 2**20:.0f} MiB smaller, peak RSS "
          f"{fallen / 2**20:.0f} MiB")
    assert fallen >= 0.6 * saved
