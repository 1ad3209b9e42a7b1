"""A real model finds a fact in a long prompt, out of a compressed cache.

The bar is the full cache on the same prompts: what the model itself cannot
find says nothing about compression.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import passkey  # noqa: E402

WIDE = ("snapkv-wide,keep=0.3", "snapkv-wide,keep=0.15")


def right_answers(specs, trials):
    rows = passkey.measure(specs, trials, tokens=2000)
    return [row["right"] for row in rows]


def test_wide_pools_keep_the_answers():
    full, *wide = right_answers(("full", *WIDE), trials=6)
    assert full >= 5
    assert min(wide) >= full - 1


def test_loss_is_visible_through_the_compressed_cache():
    """Guards the measurement: with 40 entries left there is nothing to find,
    unless digits were answered from the uncompressed prompt."""
    row = passkey.measure(["snapkv,keep=0.02"], trials=1, tokens=2000)[0]
    assert row["right"] == 0


@pytest.mark.slow
def test_acceptance_of_forty_trials():
    full, *wide = right_answers(("full", *WIDE), trials=40)
    assert full >= 38
    assert min(wide) >= full - 1
