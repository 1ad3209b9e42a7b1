"""The built command, for tables that one process each is measured for."""

import json
import subprocess
from pathlib import Path

BINARY = Path(__file__).resolve().parent.parent / "build/release/bin/pyramidkv"


def json_of(*words):
    """The document that the command prints with --json."""
    done = subprocess.run(
        [BINARY, *map(str, words), "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"pyramidkv {words[0]} failed with {done.returncode}")
    return json.loads(done.stdout)
