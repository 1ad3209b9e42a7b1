"""Runs the rows of bench/goals.py, each in processes of its own."""

import random
import sys

import goals
import parity
import prompts
from peers import processes
from tokenizer import Tokenizer

NOISE_LIMIT = 0.05  # of all processors, for others


def report(line):
    print(line, file=sys.stderr, flush=True)


def prompt_ids(tokenizer, length):
    rng = random.Random(length)
    text = prompts.paragraphs(rng, tokenizer.count, length + length // 8 + 64)
    ids = tokenizer.encode("\n".join(text))
    if len(ids) < length:
        raise SystemExit(f"the generated text has {len(ids)} tokens only")
    return ids[:length]


def run_row(row, ids, args):
    shared = args.predict, args.threads, args.model
    if row.system == goals.LLAMA_CPP:
        return processes.llama_cpp(ids, *shared, sequences=row.sequences)
    if row.system == goals.OPENVINO:
        return processes.openvino(ids, row.cache, *shared)
    if row.sequences > 1:
        return processes.pyramidkv_together(
            row.tokens, row.cache, row.sequences, *shared
        )
    return processes.pyramidkv(ids, row.cache, *shared)


def check_answers(rows, ids_of, args, missing):
    """{tokens: reference} of the lengths at which a peer is timed.

    Rows of a llama.cpp that cannot answer go to `missing` with the reason.
    """
    peers = [
        row
        for row in rows
        if row.system != goals.OURS and row.sequences == 1
    ]
    references = {}
    for row in peers:
        ids = ids_of[row.tokens]
        if row.tokens not in references:
            references[row.tokens] = parity.Reference(ids, args)
    lengths = sorted(
        {row.tokens for row in peers if row.system == goals.LLAMA_CPP}
    )
    for tokens in lengths[:1]:
        try:
            parity.refuse_other_answers(
                ids_of[tokens], references[tokens], args
            )
            report("llama.cpp answers as pyramidkv does")
        except processes.PeerFailed as failure:
            for row in rows:
                if row.system == goals.LLAMA_CPP:
                    leave_out(row, str(failure), missing)
    return references


def leave_out(row, reason, missing):
    missing[row] = reason
    report(f"left out: {row.name}: {reason}")


def run_rows(rows, label, ids_of, args, runs, missing):
    """One run of each row that is not missing."""
    for row in rows:
        if row in missing:
            continue
        processes.wait_until_quiet(NOISE_LIMIT, args.patience)
        try:
            run = run_row(row, ids_of[row.tokens], args)
        except processes.PeerFailed as failure:
            leave_out(row, str(failure), missing)
            continue
        run.setdefault("decode_tokens_per_s", 1000 / run["tpot_ms"])
        runs[row].append(run)
        report(
            f"{label} {row.name}: "
            f"{run['ttft_ms']:.0f} ms, {run['tpot_ms']:.2f} ms, "
            f"others {100 * run['noise']:.0f} %"
        )


def measure(rows, with_bounds, args):
    """({row: [run of each repetition]}, the same of bounds, statements,
    {row: why it is missing})"""
    processes.refuse_what_is_not_built(with_bounds)
    tokenizer = Tokenizer(args.model)
    ids_of = {n: prompt_ids(tokenizer, n) for n in {r.tokens for r in rows}}
    missing = {}
    references = check_answers(rows, ids_of, args, missing)
    runs = {row: [] for row in rows}
    bounds = []
    for repetition in range(args.repetitions):
        if with_bounds:
            processes.wait_until_quiet(NOISE_LIMIT, args.patience)
            bounds.append(processes.bounds(args.threads))
        label = f"{repetition + 1}/{args.repetitions}"
        run_rows(rows, label, ids_of, args, runs, missing)
    runs = {row: done for row, done in runs.items() if row not in missing}
    statements = [
        parity.statement(row, references[row.tokens], done[0]["tokens"])
        for row, done in runs.items()
        if row.system != goals.OURS and row.sequences == 1
    ]
    return runs, bounds, statements, missing
