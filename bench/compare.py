"""pyramidkv and llama.cpp side by side: speed and peak memory.

    bench/compare.py [--lengths 4096,8000] [-r 3] [-n 32] [--json] [SPEC...]

Same model, same token ids, same threads, greedy; every run is a process of
its own, and repetitions alternate between the rows, so that a machine that
slows down does so for all of them. Before anything is timed the answers are
compared: a speed of something else would be worth nothing.

Peak memory is VmHWM at the end less VmHWM just before the model is loaded, so
the weights count on both sides, and neither Python nor libraries do.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

import prompts
from peers import processes
from tokenizer import Tokenizer

PEER = "llama.cpp, f16 cache"
SPECS = ("full", "pyramidkv,keep=0.3")
TIMES = ("ttft_ms", "tpot_ms", "prefill_tokens_per_s", "processor_s")
PARITY_TOKENS = 16
TIE = 0.3  # logits: candidates so close may come out in either order
NOISE_LIMIT = 0.05  # of all processors, for others


def prompt_ids(tokenizer, length):
    rng = random.Random(length)
    text = prompts.paragraphs(rng, tokenizer.count, length + length // 8 + 64)
    ids = tokenizer.encode("\n".join(text))
    if len(ids) < length:
        raise SystemExit(f"the generated text has {len(ids)} tokens only")
    return ids[:length]


def parity_error(ids, args):
    """Why the answers differ, or None.

    Where greedy answers part, they do so between two candidates that are all
    but equal for both programs; behind that they are different texts.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "ours"), Path(folder, "peer")
        shared = args.threads, args.model
        ours = processes.pyramidkv(
            ids, "full", PARITY_TOKENS, *shared, logits=files[0]
        )
        peer = processes.llama_cpp(ids, PARITY_TOKENS, *shared, files[1])
        logits = [
            np.fromfile(file, np.float32).reshape(PARITY_TOKENS, -1)
            for file in files
        ]
    for step, (a, b) in enumerate(zip(ours["tokens"], peer["tokens"])):
        if a != b:
            gaps = [abs(rows[step, a] - rows[step, b]) for rows in logits]
            if max(gaps) <= TIE:
                return None
            return (
                f"token {step}: {a} here, {b} in llama.cpp, "
                f"{max(gaps):.2f} logits apart"
            )
    return None


def measure(args, prompts_by_length, report):
    """{(length, row): [run of each repetition]}"""
    runs = {}
    for repetition in range(args.repetitions):
        for length, ids in prompts_by_length.items():
            for row in (*args.specs, PEER):
                processes.wait_until_quiet(NOISE_LIMIT, args.patience)
                shared = args.predict, args.threads, args.model
                if row == PEER:
                    run = processes.llama_cpp(ids, *shared)
                else:
                    run = processes.pyramidkv(ids, row, *shared)
                runs.setdefault((length, row), []).append(run)
                report(
                    f"{repetition + 1}/{args.repetitions} {length} {row}: "
                    f"{run['ttft_ms']:.0f} ms, {run['tpot_ms']:.2f} ms, "
                    f"others {100 * run['noise']:.0f} %"
                )
    return runs


def summarise(runs):
    """One row for each length and cache; ratios are ours over theirs."""
    rows = {}
    for (length, name), row_runs in runs.items():
        row = {"name": name, "prompt_tokens": length, "runs": len(row_runs)}
        for key in TIMES:
            values = [run[key] for run in row_runs]
            row[key] = statistics.median(values)
            row[f"{key}_spread"] = max(values) - min(values)
        row["decode_tokens_per_s"] = 1000 / row["tpot_ms"]
        row["memory_bytes"] = max(
            run["peak_rss_bytes"] - run["rss_before_load_bytes"]
            for run in row_runs
        )
        row["noise"] = max(run["noise"] for run in row_runs)
        if "kv_bytes" in row_runs[0]:
            row["kv_bytes"] = row_runs[0]["kv_bytes"]
            row["kv_bytes_full"] = row_runs[0]["kv_bytes_full"]
        rows[length, name] = row
    for (length, name), row in rows.items():
        peer = rows[length, PEER]
        row["prefill_ratio"] = peer["ttft_ms"] / row["ttft_ms"]
        row["decode_ratio"] = peer["tpot_ms"] / row["tpot_ms"]
        row["memory_ratio"] = row["memory_bytes"] / peer["memory_bytes"]
    return rows


def verdicts(rows, args):
    """What this project promises, each measured above."""
    speed = rows[args.lengths[0], args.specs[0]]
    memory = rows[args.lengths[-1], args.specs[-1]]
    goals = [
        ("prefill speed", speed, "prefill_ratio", 3.0, True),
        ("decode speed", speed, "decode_ratio", 1.0, True),
        ("peak memory", memory, "memory_ratio", 0.75, False),
    ]
    return [
        {
            "what": f"{what} at {row['prompt_tokens']} tokens, {row['name']}",
            "ratio": row[key],
            "goal": goal,
            "at_least": at_least,
            "met": row[key] >= goal if at_least else row[key] <= goal,
        }
        for what, row, key, goal, at_least in goals
    ]


def table(rows):
    lines = [
        "| tokens | cache | TTFT s | prefill t/s | TPOT ms | CPU s "
        "| KV MiB | memory MiB | prefill x | decode x | memory x |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        kv = f"{row['kv_bytes'] / 2**20:.1f}" if "kv_bytes" in row else ""
        lines.append(
            f"| {row['prompt_tokens']} | {row['name']} "
            f"| {row['ttft_ms'] / 1000:.2f} "
            f"+- {row['ttft_ms_spread'] / 2000:.2f} "
            f"| {row['prefill_tokens_per_s']:.0f} "
            f"| {row['tpot_ms']:.1f} +- {row['tpot_ms_spread'] / 2:.1f} "
            f"| {row['processor_s']:.1f} "
            f"| {kv} | {row['memory_bytes'] / 2**20:.0f} "
            f"| {row['prefill_ratio']:.2f} | {row['decode_ratio']:.2f} "
            f"| {row['memory_ratio']:.2f} |"
        )
    return "\n".join(lines)


def verdict_line(verdict):
    sign = ">=" if verdict["at_least"] else "<="
    word = "met" if verdict["met"] else "MISSED"
    return (
        f"{verdict['what']}: {verdict['ratio']:.2f} x llama.cpp "
        f"(goal {sign} {verdict['goal']:g}): {word}"
    )


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="pyramidkv and llama.cpp side by side"
    )
    parser.add_argument(
        "specs", nargs="*", default=SPECS, metavar="SPEC",
        help="caches [full pyramidkv,keep=0.3]",
    )  # fmt: skip
    parser.add_argument(
        "--lengths",
        type=lambda text: [int(word) for word in text.split(",")],
        default=[4096, 8000],
        help="tokens of the prompts: speed is judged at the first, memory at "
        "the last [4096,8000]",
    )
    parser.add_argument("-m", "--model", default=processes.MODEL)
    parser.add_argument("-n", "--predict", type=int, default=32)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=10,
        help="seconds to wait before each run until the machine is quiet [10]",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.predict < 2 or args.repetitions < 1:
        parser.error("at least two tokens and one repetition")
    return args


def main():
    args = parse_arguments()
    tokenizer = Tokenizer(args.model)
    prompts_by_length = {n: prompt_ids(tokenizer, n) for n in args.lengths}

    def report(line):
        print(line, file=sys.stderr, flush=True)

    error = parity_error(prompts_by_length[args.lengths[0]], args)
    if error:
        raise SystemExit(f"not timed, the answers differ: {error}")
    report("the answers agree")
    runs = measure(args, prompts_by_length, report)
    rows = summarise(runs)
    results = verdicts(rows, args)
    noise = max(row["noise"] for row in rows.values())
    if args.json:
        document = {
            "threads": args.threads,
            "n_gen": args.predict,
            "noise": noise,
            "rows": list(rows.values()),
            "verdicts": results,
        }
        print(json.dumps(document))
        return
    print(table(rows.values()), end="\n\n")
    if noise > NOISE_LIMIT:
        print(
            f"Other programs took up to {100 * noise:.0f} % of the processors "
            "during a run: the times are not to be trusted.\n"
        )
    print("\n".join(map(verdict_line, results)))


if __name__ == "__main__":
    main()
