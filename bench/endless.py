"""Contexts without an end: memory and perplexity far past the model's context.

    bench/endless.py [--tokens 20000] [--kept 2048] [--prompt 200000]

First, real text is forced through a cache of constant size whose positions are
renumbered (streaming-llm,positions=renumber). The perplexity of its last
quarter is compared with that of the same tokens behind a full cache of at
least 3,072 and at most 4,096 tokens of context, read anew for every 1,024.
Second, a prompt of 20,000 and one of --prompt tokens are read in chunks
(prefill=streaming): peak memory must be the same. About 8 minutes.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import real_text
from tokenizer import MODEL, Tokenizer

BINARY = MODEL.parent.parent / "build/release/bin/pyramidkv"
BLOCK, CONTEXT = 1024, 4096


def run(prompt, forced, kv, *more):
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "prompt"), Path(folder, "forced")
        for path, ids in zip(files, (prompt, forced)):
            path.write_text(json.dumps(ids))
        words = ["--prompt-tokens", files[0], "--kv", kv, *more]
        if forced:
            words += ["--force-tokens", files[1], "-n", str(len(forced))]
            words += ["--logprobs", "0"]
        out = subprocess.run(
            [BINARY, "run", "--json", *words],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
    return json.loads(out)


def perplexity(runs):
    logs = [t["logprob"] for done in runs for t in done]
    return math.exp(-sum(logs) / len(logs)), len(logs)


def endless(ids, kept):
    kv = f"streaming-llm,tokens={kept},positions=renumber"
    done = run(ids[:1024], ids[1024:], kv)
    quarter = max((len(ids) - 1024) // 4 // BLOCK, 1) * BLOCK
    mine, count = perplexity([done["logprobs"][-quarter:]])
    full = []
    for start in range(len(ids) - quarter, len(ids), BLOCK):
        before = ids[start - (CONTEXT - BLOCK) : start]
        full.append(run(before, ids[start : start + BLOCK], "full")["logprobs"])
    reference, _ = perplexity(full)
    print(
        f"{len(ids) - 1024} tokens forced, {kept} entries kept, last {count}: "
        f"perplexity {mine:.3f}, with a full context of {CONTEXT} "
        f"{reference:.3f}, ratio {mine / reference:.3f} (goal <= 1.15)"
    )
    print(
        f"cache {done['kv']['peak_bytes'] / 2**20:.1f} MiB at its peak, "
        f"{done['kv']['bytes'] / 2**20:.1f} MiB at the end; "
        f"TPOT {done['timings']['tpot_ms']:.1f} ms (forced rows)"
    )


def streaming(ids, kept):
    kv = f"streaming-llm,tokens={kept},positions=renumber,prefill=streaming"
    for count in (20000, len(ids)):
        done = run(ids[:count], [], kv, "-n", "8")
        print(
            f"prompt of {done['kv']['tokens_seen'] - 7} tokens: "
            f"{done['timings']['prefill_ms'] / 1000:.1f} s, peak RSS "
            f"{done['peak_rss_bytes'] / 2**20:.0f} MiB, "
            f"{done['kv']['tokens_kept_mean']:.0f} entries per head"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=20000)
    parser.add_argument("--kept", type=int, default=2048)
    parser.add_argument("--prompt", type=int, default=200000)
    args = parser.parse_args()
    tokenizer = Tokenizer()
    endless(real_text.token_ids(tokenizer, args.tokens + 1024), args.kept)
    streaming(real_text.token_ids(tokenizer, args.prompt), args.kept)


if __name__ == "__main__":
    main()
