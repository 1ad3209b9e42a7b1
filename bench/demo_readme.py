"""Three questions about README, answered by a model of the user's own.

Each is asked with the whole of README before it, once with the full cache and
once out of a sixth of the entries. The model has to understand the question:
what it gets wrong with the full cache, no compression has lost.
"""

import sys
import time
from pathlib import Path

from command import json_of

README = Path(__file__).resolve().parent.parent / "README.md"
SPECS = ("full", "snapkv-wide,keep=0.167")
PREDICT = 96
MIB = 2**20
QUESTIONS = (
    "Which architectures of models run, and which do not?",
    "Which CPU instructions does the fast path want?",
    "Under which licence is the project?",
)


def ask(model, question, spec):
    """The document of a run behind README, in the model's chat template."""
    return json_of(
        "run", "--chat", "-m", model, "--kv", spec, "-n", PREDICT,
        "-f", README, "-p", f"{question} Answer in one sentence.",
    )  # fmt: skip


def answer_line(spec, result):
    kv = result["kv"]
    return (
        f"  {spec} ({kv['bytes'] / MIB:.1f} MiB, "
        f"{100 * kv['bytes'] / kv['bytes_full']:.0f} % of full)\n"
        f"    {' '.join(result['text'].split())}"
    )


def main():
    model = sys.argv[1]
    print("\nREADME.md, asked", flush=True)
    for number, question in enumerate(QUESTIONS, 1):
        print(f"\n{number}. {question}", flush=True)
        for spec in SPECS:
            print(
                f"[{time.strftime('%H:%M:%S')}] reading, {spec}",
                file=sys.stderr,
                flush=True,
            )
            print(answer_line(spec, ask(model, question, spec)), flush=True)


if __name__ == "__main__":
    main()
