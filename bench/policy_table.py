"""Every preset at three budgets, in one table (docs/policies.md).

    bench/policy_table.py [--model FILE] [--trials 20] [--runs 5] [--out DIR]

Quality comes from shared prefills (`pyramidkv eval`): pass keys in 2,000
tokens, everything but the last token compressed, and the KL divergence to the
full cache over 256 tokens forced behind a context of 4,096. Times come from
runs of their own (`pyramidkv bench`) of 4,096 tokens, medians; rows alternate,
and the full cache is among them. On a machine that does nothing else it takes
about 25 minutes with the default model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizer import MODEL

BINARY = MODEL.parent.parent / "build/release/bin/pyramidkv"
KEEPS = ("0.5", "0.3", "0.1")
PRESETS = (
    "streaming-llm",
    "h2o",
    "snapkv",
    "pyramidkv",
    "snapkv-wide",
    "tova",
    "knorm",
    "keydiff",
    "expected-attention",
    "chunkkv",
    "kvzip",
    "far-attention",
    "r-kv",
    "duo-attention",
    "llama",
    "mistral",
    "snapkv,heads=adaptive",
    "pyramidkv,heads=adaptive",
)


def command(args, *words):
    print("+", " ".join(map(str, words[:6])), "...", file=sys.stderr)
    out = subprocess.run(
        [BINARY, *words, "-m", args.model, "--json"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return json.loads(out)


def flags(specs):
    return [word for spec in specs for word in ("--kv", spec)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", help="a folder for the JSON documents")
    args = parser.parse_args()
    out = Path(args.out or tempfile.mkdtemp())
    out.mkdir(exist_ok=True)

    profile = out / "heads.json"
    if not profile.exists():
        script = Path(__file__).with_name("head_profile.py")
        text = subprocess.run(
            [sys.executable, script, "--model", args.model],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        profile.write_bytes(text)

    def spec(preset, keep):
        extra = f",profile={profile}" if preset == "duo-attention" else ""
        return f"{preset}{extra},keep={keep}"

    def load(name, *words):
        """A document of an earlier run is taken as it is."""
        path = out / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(command(args, *words)))
        return json.loads(path.read_text())["rows"]

    specs = [spec(p, k) for k in KEEPS for p in PRESETS]
    keys = load(
        "passkey", "eval", "passkey", "--tokens", "2000",
        "--trials", str(args.trials), *flags(specs),
    )  # fmt: skip
    kl = load(
        "kl", "eval", "kl", "--tokens", "4096", "--trials", "2", *flags(specs)
    )
    times = []
    for keep in KEEPS:
        runs = args.runs if keep == "0.5" else 1
        rows = flags(["full"] + [spec(p, keep) for p in PRESETS])
        times.append(
            load(
                f"times-{keep}", "bench", "-p", "4096", "-n", "64",
                "-r", str(runs), *rows,
            )
        )  # fmt: skip
    print_tables(specs, keys, kl, times)


def print_tables(specs, keys, kl, times):
    by_keys = dict(zip(["full"] + specs, keys))
    by_kl = dict(zip(["full"] + specs, kl))
    count = len(PRESETS)
    for number, keep in enumerate(KEEPS):
        full, rows = times[number][0], times[number][1:]
        print(f"\nkeep={keep}\n")
        print(
            "| preset | bytes | mass | KL | pass keys | prefill x | TPOT x |"
        )
        print("|---|--:|--:|--:|--:|--:|--:|")
        for i, preset in enumerate(PRESETS):
            s = specs[number * count + i]
            k, d, t = by_keys[s], by_kl[s], rows[i]
            mass = k["retained_mass"]
            print(
                f"| `{preset}` "
                f"| {100 * t['kv_bytes'] / t['kv_bytes_full']:.0f} % "
                f"| {mass:.2f} "
                f"| {d['mean_kl']:.4f} "
                f"| {k['right']} of {k['trials']} "
                f"| {t['ttft_ms'] / full['ttft_ms']:.2f} "
                f"| {t['tpot_ms'] / full['tpot_ms']:.2f} |"
            )


if __name__ == "__main__":
    main()
