"""What compression saves and what it costs, in a few minutes.

Asks for pass keys hidden in about 2,000 tokens, then measures the costs of a
prompt of 8,000 tokens, and draws the pyramid. The full cache answers the same
questions in the same run: what it cannot answer, no compression has lost.
Progress goes to standard error, the result to standard output.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import prompts
from command import BINARY, json_of
from tokenizer import MODEL, Tokenizer

SPECS = (
    "full",
    "pyramidkv,keep=0.5",
    "pyramidkv,keep=0.3",
    "snapkv,keep=0.3",
    "snapkv-wide,keep=0.3",
    "snapkv-wide,keep=0.1",
)
DRAWN = "pyramidkv,keep=0.3"
PREDICT = 32  # tokens behind the forced space: the digits, then TPOT's
DIGITS = 5
MIB = 2**20


def ask(model, ids, spec):
    """The run of `ids`, all but the last of them compressed, as JSON.

    One process per run, so that peak memory is the run's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        prompt, last = Path(folder, "prompt"), Path(folder, "last")
        prompt.write_text(json.dumps(ids[:-1]))
        last.write_text(json.dumps(ids[-1:]))
        return json_of(
            "run", "-m", model, "--kv", spec, "-n", 1 + PREDICT,
            "--prompt-tokens", prompt, "--force-tokens", last, "--ignore-eos",
        )  # fmt: skip


def answered(result, passkey):
    """Whether the digits are right; the forced space stands before them."""
    return result["text"].lstrip()[:DIGITS] == passkey.answer


class Questions:
    """The same prompts for every spec, of one length."""

    def __init__(self, model, tokenizer, count, tokens):
        self.model = model
        self.passkeys = [
            prompts.passkey(1000 + i, tokenizer.count, tokens)
            for i in range(count)
        ]
        self.ids = [tokenizer.encode(p.text) for p in self.passkeys]

    def ask_all(self, label):
        """Runs for each spec. Specs take turns, so that a machine that gets
        slower or faster meanwhile does so for all of them."""
        runs = {spec: [] for spec in SPECS}
        for number, ids in enumerate(self.ids, 1):
            for spec in SPECS:
                progress(f"{label}, {number} of {len(self.ids)}: {spec}")
                runs[spec].append(ask(self.model, ids, spec))
        return runs

    def right(self, runs):
        return sum(map(answered, runs, self.passkeys))


def progress(line):
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def costs(runs):
    """Cells of a row: KV MiB, of full, mass, TTFT, TPOT, peak RSS."""
    kv_bytes = statistics.mean(run["kv"]["bytes"] for run in runs)
    kv_full = statistics.mean(run["kv"]["bytes_full"] for run in runs)
    mass = statistics.mean(run["kv"]["retained_mass"] or 0 for run in runs)
    ttft = statistics.median(run["timings"]["ttft_ms"] for run in runs)
    tpot = statistics.median(run["timings"]["tpot_ms"] for run in runs)
    rss = max(run["peak_rss_bytes"] for run in runs)
    return [
        f"{kv_bytes / MIB:.1f}",
        f"{100 * kv_bytes / kv_full:.0f} %",
        f"{mass:.3f}",
        f"{ttft / 1000:.2f} s",
        f"{tpot:.1f} ms",
        f"{rss / MIB:.0f} MiB",
    ]


def table(head, rows):
    """Markdown whose columns line up on a terminal as well."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]

    def line(cells):
        first = cells[0].ljust(widths[0])
        rest = [c.rjust(w) for c, w in zip(cells[1:], widths[1:])]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def verdict(right, asked, share, mass):
    """Two sentences: where compression cost answers, and how sure that is."""
    full = right["full"]
    lost = [spec for spec in SPECS if right[spec] < full]
    held = [spec for spec in SPECS[1:] if right[spec] >= full]
    first = f"The full cache answered {full} of {asked}"
    if lost:
        items = ", ".join(f"{spec} ({right[spec]} right)" for spec in lost)
        first += f"; compression cost answers with {items}"
    if held:
        items = ", ".join(f"{spec} ({share[spec]} of the bytes)" for spec in held)
        first += f"; it cost none with {items}"
    second = f"So few questions ({asked}) tell large losses only"
    if lost and held and min(map(mass.get, held)) < max(map(mass.get, lost)):
        second += ", and retained mass does not rank the caches as answers do"
    return f"{first}.\n{second}: pyramidkv eval passkey asks more."


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", default=MODEL)
    parser.add_argument("--questions", type=int, default=5, metavar="N")
    parser.add_argument(
        "--no-long", action="store_true",
        help="without the costs of 8,000 tokens",
    )  # fmt: skip
    return parser.parse_args()


HEAD = ["KV MiB", "of full", "mass", "TTFT", "TPOT", "peak RSS"]


def print_long(model, tokenizer):
    runs = Questions(model, tokenizer, 1, 8000).ask_all("8,000 tokens")
    print("\nCosts of about 8,000 tokens, one run\n")
    rows = [[spec, *costs(runs[spec])] for spec in SPECS]
    print(table(["cache", *HEAD], rows))


def main():
    args = parse_arguments()
    tokenizer = Tokenizer(args.model)
    asked = args.questions
    short = Questions(args.model, tokenizer, asked, 2000)
    runs = short.ask_all("2,000 tokens")
    right = {spec: short.right(runs[spec]) for spec in SPECS}
    cells = {spec: costs(runs[spec]) for spec in SPECS}
    plural = "s" if asked > 1 else ""
    print(f"\nPass keys hidden in about 2,000 tokens, {asked} question{plural}\n")
    rows = [[s, f"{right[s]} of {asked}", *cells[s]] for s in SPECS]
    print(table(["cache", "right", *HEAD], rows), flush=True)
    if not args.no_long:
        print_long(args.model, tokenizer)
    print(f"\nEntries that {DRAWN} keeps of 2,000 in each layer\n", flush=True)
    subprocess.run(
        [BINARY, "plan", "-m", args.model, "-c", "2000"]
        + ["--kv", DRAWN],
        check=True,
    )
    share = {spec: cells[spec][1] for spec in SPECS}
    mass = {spec: float(cells[spec][2]) for spec in SPECS}
    print("\n" + verdict(right, asked, share, mass))


if __name__ == "__main__":
    main()
