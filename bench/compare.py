"""Speed and peak memory of pyramidkv, llama.cpp and OpenVINO, judged.

    bench/compare.py [--only peers,own,deep,batch,bounds] [--max-tokens N]
                     [-r 3] [-n 64] [--json]

Same model, same token ids, same threads, greedy; every run is a process of
its own, and repetitions alternate between the rows, so that a machine that
slows down does so for all of them. Before anything is timed the answers are
compared: a speed of something else would be worth nothing.

bench/goals.py says what is measured and what it should come to. Peak memory
is VmHWM at the end less VmHWM just before the model is loaded, so the weights
count on all sides, and neither Python nor libraries do.
"""

import argparse
import json

import goals
import measure
import report
from peers import processes
from shape import shape_of


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="pyramidkv, llama.cpp and OpenVINO side by side"
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(goals.GROUPS),
        metavar="NAME,...",
        help=f"groups of rows: {', '.join(goals.GROUPS)} [all]",
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N",
        help="leave out rows with longer prompts",
    )  # fmt: skip
    parser.add_argument("-m", "--model", default=processes.MODEL)
    parser.add_argument("-n", "--predict", type=int, default=64)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=10,
        help="seconds to wait before each run until the machine is quiet [10]",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    unknown = sorted(set(args.only) - set(goals.GROUPS))
    if unknown:
        parser.error(f"no group {', '.join(unknown)}")
    if args.predict < 3 or args.repetitions < 1:
        parser.error("at least three tokens and one repetition")
    return args


def main():
    args = parse_arguments()
    rows = goals.rows_of(args.only, args.max_tokens)
    runs, bound_runs, statements, missing = measure.measure(
        rows, "bounds" in args.only, args
    )
    summaries = {row: goals.summarise(done) for row, done in runs.items()}
    noises = [0.0, *(summary["noise"] for summary in summaries.values())]
    bounds = None
    if bound_runs:
        bounds = goals.best_bounds(bound_runs)
        noises.append(bounds["noise"])
        shape = shape_of(args.model)
        for row, summary in summaries.items():
            if row.has_bounds:
                goals.add_shares(row, summary, shape, bounds)
    document = {
        "threads": args.threads,
        "n_gen": args.predict,
        "noise": max(noises),
        "bounds": bounds,
        "answers": statements,
        "rows": [
            {
                "system": row.system,
                "cache": row.cache,
                "prompt_tokens": row.tokens,
                "sequences": row.sequences,
            }
            | (summaries.get(row) or {"missing": missing[row]})
            for row in rows
        ],
        "verdicts": goals.verdicts(summaries),
    }
    if args.json:
        print(json.dumps(document))
    else:
        print(
            report.markdown(document, summaries, missing, measure.NOISE_LIMIT)
        )


if __name__ == "__main__":
    main()
