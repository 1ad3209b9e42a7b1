"""bench/compare.py where a peer or a program is missing; nothing is timed."""

import argparse
import sys

import pytest

from support import cli

sys.path.insert(0, str(cli.ROOT / "bench"))

import goals  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from peers import processes  # noqa: E402

ROWS = [goals.ours(goals.FULL, goals.SHORT), goals.llama_cpp(goals.SHORT),
        *goals.openvino(goals.SHORT, ("paged",))]
ARGS = argparse.Namespace(repetitions=2, patience=0, predict=3, threads=1,
                          model="x")


def run(**values):
    return {"ttft_ms": 1.0, "tpot_ms": 1.0, "tokens": [1], "noise": 0.0,
            "processor_s": 1.0} | values


def fail(*_, **__):
    raise processes.PeerFailed("cannot load x")


def test_a_peer_that_fails_leaves_the_others(monkeypatch):
    monkeypatch.setattr(processes, "llama_cpp", fail)
    monkeypatch.setattr(processes, "openvino", lambda *a: run())
    monkeypatch.setattr(processes, "pyramidkv", lambda *a: run())
    runs, missing = {row: [] for row in ROWS}, {}
    ids = {goals.SHORT: [1, 2]}
    for label in ("1/2", "2/2"):
        measure.run_rows(ROWS, label, ids, ARGS, runs, missing)
    assert missing == {ROWS[1]: "cannot load x"}
    assert [len(runs[row]) for row in ROWS] == [2, 0, 2]
    summaries = {row: goals.summarise(runs[row])
                 for row in ROWS if row not in missing}
    text = report.table(summaries, missing)
    assert "| llama.cpp | f16 | 512 | cannot load x |" in text
    assert all(line.count("|") == 10 for line in text.splitlines())


def test_answers_of_a_peer_that_cannot_load(monkeypatch):
    monkeypatch.setattr(measure.parity, "Reference", lambda *a: object())
    monkeypatch.setattr(measure.parity, "refuse_other_answers", fail)
    missing = {}
    measure.check_answers(ROWS, {goals.SHORT: [1]}, ARGS, missing)
    assert missing == {ROWS[1]: "cannot load x"}


def test_the_reason_is_the_peers_last_line(monkeypatch, tmp_path):
    script = tmp_path / "peer.py"
    monkeypatch.setattr(processes, "__file__", str(script))
    script.write_text("import sys\nprint('noise', file=sys.stderr)\n"
                      "sys.exit('cannot load x')\n")
    with pytest.raises(processes.PeerFailed, match="^cannot load x$"):
        processes._peer(sys.executable, "peer.py", [1])
    script.write_text("import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(processes.PeerFailed, match="ended with -9"):
        processes._peer(sys.executable, "peer.py", [1])


def test_without_openvino_its_rows_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "OPENVINO_PYTHON", tmp_path / "none")
    with pytest.raises(processes.PeerFailed, match="--peers"):
        processes.openvino([1], "paged", 3, 1)


def test_programs_that_are_not_built_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "BINARY", tmp_path)
    monkeypatch.setattr(processes, "KERNELS_BENCH", tmp_path / "kernels_bench")
    processes.refuse_what_is_not_built(with_bounds=False)
    with pytest.raises(SystemExit, match="--target kernels_bench"):
        processes.refuse_what_is_not_built(with_bounds=True)
