"""A real model finds a fact in a long prompt, out of a compressed cache.

The bar is the full cache on the same prompts: what the model itself cannot
find says nothing about compression.
"""

import pytest

from support import cli

WIDE = ("snapkv-wide,keep=0.3", "snapkv-wide,keep=0.15")


def right_answers(specs, trials, seed=0):
    """Of the full cache, then of each spec."""
    flags = [flag for spec in specs for flag in ("--kv", spec)]
    document = cli.call_json("eval", "passkey", "--trials", trials, "--seed",
                             seed, *flags)
    return [row["right"] for row in document["rows"]]


def test_wide_pools_keep_the_answers():
    full, *wide = right_answers(WIDE, trials=6)
    assert full >= 5
    assert min(wide) >= full - 1


def test_loss_is_visible_through_the_compressed_cache():
    """Guards the measurement: with 40 entries left there is nothing to find,
    unless digits were answered from the uncompressed prompt."""
    full, lost = right_answers(["snapkv,keep=0.02"], trials=1)
    assert (full, lost) == (1, 0)


@pytest.mark.slow
def test_acceptance_of_forty_trials():
    parts = [right_answers(WIDE, trials=10, seed=seed) for seed in range(4)]
    full, *wide = map(sum, zip(*parts))
    assert full >= 38
    assert min(wide) >= full - 1
