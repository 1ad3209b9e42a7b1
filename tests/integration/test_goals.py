"""The table of goals of bench/compare.py: pure arithmetic, nothing is run."""

import sys

import pytest

from support import cli

sys.path.insert(0, str(cli.ROOT / "bench"))

import goals  # noqa: E402


def summary(**values):
    """Of one run in which everything takes as long as everywhere else."""
    run = {"ttft_ms": 1000.0, "tpot_ms": 10.0, "decode_tokens_per_s": 100.0,
           "processor_s": 1.0, "noise": 0.0, "kv_bytes": 1 << 20,
           "peak_rss_bytes": 3 << 20, "rss_before_load_bytes": 1 << 20}
    return goals.summarise([run | values])


def test_every_goal_is_judged_on_rows_that_are_measured():
    summaries = {row: summary() for row in goals.rows_of(goals.GROUPS)}
    for row in goals.GROUPS["bounds"]:
        summaries[row]["decode_share"] = 0.5
    verdicts = goals.verdicts(summaries)
    assert len(verdicts) == len(goals.GOALS)
    assert {v["ratio"] for v in verdicts if v["against"]} == {1.0}


def test_medians_and_spreads():
    runs = [{"ttft_ms": t, "tpot_ms": 1.0, "noise": t / 100,
             "peak_rss_bytes": t, "rss_before_load_bytes": 1}
            for t in (3, 1, 8)]
    result = goals.summarise(runs)
    assert (result["ttft_ms"], result["ttft_ms_spread"]) == (3, 7)
    assert result["answer_ms"] == 3 + goals.ANSWER_TOKENS
    assert result["memory_bytes"] == 7
    assert result["noise"] == 0.08


def test_a_goal_takes_the_better_backend():
    ours = goals.ours(goals.FULL, goals.SHORT)
    backends = goals.openvino(goals.SHORT)
    for best in backends:
        rows = {row: summary(ttft_ms=2000.0) for row in backends}
        rows[best] = summary(ttft_ms=1500.0)
        verdicts = goals.verdicts(rows | {ours: summary()})
        ttft = next(v for v in verdicts if v["key"] == "ttft_ms")
        assert ttft["against"] == best.name
        assert ttft["ratio"] == pytest.approx(1 / 1.5)
        assert not ttft["met"]  # 0.6


def test_high_speeds_are_good():
    row, other = goals.ours(goals.KEEP_3, goals.BATCH, 8), goals.llama_cpp(
        goals.BATCH, 8)
    for speed, met in ((199.0, False), (200.0, True)):
        (verdict,) = goals.verdicts(
            {row: summary(decode_tokens_per_s=speed), other: summary()})
        assert verdict["met"] == met


def test_rows_that_were_left_out_are_not_judged():
    rows = goals.rows_of(["peers", "own"], max_tokens=512)
    assert {row.tokens for row in rows} == {512}
    assert goals.verdicts({}) == []
