"""Three questions about README, answered by a model of the user's own.

Each is asked with the whole of README before it, once with the full cache and
once out of a sixth of the entries. The model has to understand the question:
what it gets wrong with the full cache, no compression has lost.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "build/release/bin/pyramidkv"
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
    text = (ROOT / "README.md").read_text()
    with tempfile.TemporaryDirectory() as folder:
        prompt = Path(folder, "prompt")
        prompt.write_text(f"{text}\n\n{question} Answer in one sentence.\n")
        run = subprocess.run(
            [
                BINARY, "run", "--json", "--chat", "-m", model, "--kv", spec,
                "-f", prompt, "-n", str(PREDICT),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
    if run.returncode != 0:
        raise SystemExit(f"pyramidkv run failed with {run.returncode}")
    return json.loads(run.stdout)


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
