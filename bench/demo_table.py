"""What compression saves and what it costs, in a few minutes.

Asks for pass keys hidden in about 2,000 tokens, then measures the costs of a
prompt of 8,000 tokens, and draws the pyramid. The full cache answers the same
questions in the same run: what it cannot answer, no compression has lost.
Progress goes to standard error, the result to standard output.
"""

import statistics
import subprocess
import sys
import time

import passkey
import prompts

SPECS = (
    "full",
    "pyramidkv,keep=0.5",
    "pyramidkv,keep=0.3",
    "snapkv,keep=0.3",
    "snapkv-wide,keep=0.3",
    "snapkv-wide,keep=0.1",
)
DRAWN = "pyramidkv,keep=0.3"
QUESTIONS = 5
PREDICT = 32  # tokens behind the forced space: the digits, then TPOT's
MIB = 2**20


class Questions:
    """The same prompts for every spec, of one length."""

    def __init__(self, tokenizer, count, tokens):
        # Other seeds than those of bench/passkey.py's first trials.
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
                runs[spec].append(
                    passkey.ask(ids, spec, PREDICT, ["--ignore-eos"])
                )
        return runs

    def right(self, runs):
        return sum(map(passkey.answered, runs, self.passkeys))


def progress(line):
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def costs(runs):
    """Cells of a row: KV MiB, of full, mass, TTFT, TPOT, peak RSS."""
    kv_bytes = statistics.mean(run["kv"]["bytes"] for run in runs)
    kv_full = statistics.mean(run["kv"]["bytes_full"] for run in runs)
    mass = statistics.mean(run["kv"]["retained_mass"] for run in runs)
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
    second = f"{asked} questions tell large losses only"
    if lost and held and min(map(mass.get, held)) < max(map(mass.get, lost)):
        second += ", and retained mass does not rank the caches as answers do"
    return f"{first}.\n{second}: bench/passkey.py asks 40."


def main():
    tokenizer = passkey.Tokenizer()
    short = Questions(tokenizer, QUESTIONS, 2000)
    runs = short.ask_all("2,000 tokens")
    right = {spec: short.right(runs[spec]) for spec in SPECS}
    cells = {spec: costs(runs[spec]) for spec in SPECS}
    long_runs = Questions(tokenizer, 1, 8000).ask_all("8,000 tokens")

    head = ["KV MiB", "of full", "mass", "TTFT", "TPOT", "peak RSS"]
    print(f"\nPass keys hidden in about 2,000 tokens, {QUESTIONS} questions\n")
    print(
        table(
            ["cache", "right", *head],
            [
                [spec, f"{right[spec]} of {QUESTIONS}", *cells[spec]]
                for spec in SPECS
            ],
        )
    )
    print("\nCosts of about 8,000 tokens, one run\n")
    print(
        table(
            ["cache", *head],
            [[spec, *costs(long_runs[spec])] for spec in SPECS],
        )
    )
    print(f"\nEntries that {DRAWN} keeps of 2,000 in each layer\n", flush=True)
    subprocess.run(
        [passkey.BINARY, "plan", "-m", passkey.MODEL, "-c", "2000"]
        + ["--kv", DRAWN],
        check=True,
    )
    share = {spec: cells[spec][1] for spec in SPECS}
    mass = {spec: float(cells[spec][2]) for spec in SPECS}
    print("\n" + verdict(right, QUESTIONS, share, mass))


if __name__ == "__main__":
    main()
