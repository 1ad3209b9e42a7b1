"""Passkeys found in long prompts, per cache spec.

    bench/passkey.py [--trials 40] [--tokens 2000] [--json] [SPEC...]

A prompt ends with the space before the number. All of it but that space is
read and compressed; the space is forced and the digits are sampled behind it.
So every digit comes from a token that attended through the compressed cache:
an answer to the last token of the prompt itself would not, for the prompt is
read with exact attention.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import llama_cpp

import prompts

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "build/release/bin/pyramidkv"
MODEL = ROOT / "models/default.gguf"
DIGITS = 5
SPECS = (
    "full",
    "pyramidkv,keep=0.5",
    "pyramidkv,keep=0.3",
    "snapkv,keep=0.5",
    "snapkv,keep=0.3",
    "snapkv-wide,keep=0.3",
    "snapkv-wide,keep=0.15",
)


class Tokenizer:
    """The model's own, as llama.cpp runs it; no weight is read."""

    def __init__(self, path=MODEL):
        # The reference keeps the callback alive as long as it may be called.
        self._silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._silent, None)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_load_model_from_file(
            os.fsencode(path), params
        )
        if not self._model:
            raise SystemExit(f"{path}: not a model; run script/bootstrap")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)

    def encode(self, text):
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), ids, len(ids), True, True
        )
        return list(ids[:count])

    def count(self, text):
        return len(self.encode(text))


def ask(ids, spec, predict=DIGITS, extra=()):
    """The run of `ids`, all but the last of them compressed, as JSON.

    One process per run, so that peak memory is the run's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        prompt, last = Path(folder, "prompt"), Path(folder, "last")
        prompt.write_text(json.dumps(ids[:-1]))
        last.write_text(json.dumps(ids[-1:]))
        run = subprocess.run(
            [
                BINARY, "run", "--json", "-m", MODEL, "--kv", spec,
                "--prompt-tokens", prompt, "--force-tokens", last,
                "-n", str(1 + predict), *extra,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
    if run.returncode != 0:
        raise SystemExit(f"pyramidkv run failed with {run.returncode}")
    return json.loads(run.stdout)


def answered(result, passkey):
    """Whether the digits are right; the forced space stands before them."""
    return result["text"][1 : 1 + DIGITS] == passkey.answer


def wilson(right, trials, z=1.96):
    """The 95 % interval of a share, honest also at 0 and 1."""
    share = right / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(
        share * (1 - share) / trials + z * z / (4 * trials * trials)
    )
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def mean(values):
    return sum(values) / len(values)


def measure(specs, trials, tokens, report=lambda line: None):
    """One row for each spec. Every spec is asked the same questions."""
    tokenizer = Tokenizer()
    questions = [
        prompts.passkey(seed, tokenizer.count, tokens)
        for seed in range(trials)
    ]
    encoded = [tokenizer.encode(question.text) for question in questions]
    rows = []
    for spec in specs:
        runs = [ask(ids, spec) for ids in encoded]
        marks = [answered(run, q) for run, q in zip(runs, questions)]
        caches = [run["kv"] for run in runs]
        rows.append(
            {
                "spec": spec,
                "trials": trials,
                "right": sum(marks),
                "interval": wilson(sum(marks), trials),
                "context_tokens": mean([run["prompt_tokens"] for run in runs]),
                "scored_tokens": DIGITS * trials,
                "kv_bytes": mean([kv["bytes"] for kv in caches]),
                "kv_bytes_full": mean([kv["bytes_full"] for kv in caches]),
                "retained_mass": mean([kv["retained_mass"] for kv in caches]),
                "answers": [
                    {
                        "seed": seed,
                        "depth": q.depth,
                        "expected": q.answer,
                        "given": run["text"][1:],
                    }
                    for seed, (q, run) in enumerate(zip(questions, runs))
                ],
            }
        )
        report(f"{spec}: {rows[-1]['right']} of {trials}")
    return rows


def table(rows):
    lines = [
        "| cache | right | 95 % interval | KV MiB | of full | mass |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["interval"]
        share = row["kv_bytes"] / row["kv_bytes_full"]
        lines.append(
            f"| `{row['spec']}` | {row['right']} of {row['trials']} "
            f"| {100 * low:.0f}-{100 * high:.0f} % "
            f"| {row['kv_bytes'] / 2**20:.1f} | {100 * share:.0f} % "
            f"| {row['retained_mass']:.3f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Passkeys per cache spec")
    parser.add_argument("specs", nargs="*", default=SPECS, metavar="SPEC")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure(
        args.specs,
        args.trials,
        args.tokens,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(rows) if args.json else table(rows))


if __name__ == "__main__":
    main()
