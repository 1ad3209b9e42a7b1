"""The built command as the tests call it."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
BINARY = os.environ.get("PYRAMIDKV_BINARY",
                        str(ROOT / "build" / "release" / "bin" / "pyramidkv"))
MODEL = os.environ.get("PYRAMIDKV_MODEL",
                       str(ROOT / "models" / "default.gguf"))
VOCABULARY = 49152
LAYERS, KV_HEADS, HEAD_DIM = 30, 3, 64
BYTES_PER_TOKEN_F16 = 2 * LAYERS * KV_HEADS * HEAD_DIM * 2


def environment(**extra):
    """Ours without what a developer's shell may set for the command."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("PYRAMIDKV_")}
    return env | {"PYRAMIDKV_MODEL": MODEL} | extra


def raw(args):
    """`run` with the prompt as it is. Tests of what people get by default are
    in tests/first_hour."""
    args = [str(a) for a in args]
    chat = {"--chat", "--no-chat", "--prompt-tokens", "--help", "-h"}
    if args[:1] == ["run"] and not chat.intersection(args):
        args.insert(1, "--no-chat")
    return args


def compressed_from_the_start(args):
    """`run` with caches that are compressed however short the prompt is."""
    args = [str(a) for a in args]
    for i in range(1, len(args) if args[0] == "run" else 0):
        spec = args[i]
        if (args[i - 1] == "--kv" and "keep=" in spec
                and not re.search(r"keep=1(,|$)|from=|tokens=|memory=", spec)):
            args[i] = spec + ",from=0"
    return args


def call(*args, stdin="", **options):
    """Runs the command, with raw prompts; never raises for its exit code."""
    if isinstance(stdin, str):
        options["input"] = stdin
    else:
        options["stdin"] = stdin
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [BINARY, *raw(args)], stderr=subprocess.PIPE, text=True,
        timeout=300, env=environment(), **options)


def call_json(*args, **options):
    """The document of a command that has to succeed."""
    args = compressed_from_the_start(args)
    done = call(*args, "--json", **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "one document on one line"
    return json.loads(done.stdout)


def interrupt(command, ready):
    """Starts a command and interrupts it after ready(process) has returned;
    its standard output and error as bytes."""
    process = subprocess.Popen(
        [BINARY, *map(str, command)], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    try:
        ready(process)
        process.send_signal(signal.SIGINT)
        output, log = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, log
    return output, log


def assert_refused(done, code, *named):
    """One line on standard error that names what was wrong."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("pyramidkv: ")
    for text in named:
        assert text in lines[0]


def write_ids(path, ids):
    """A file of token ids for --prompt-tokens and --force-tokens."""
    path.write_text(json.dumps([int(i) for i in ids]))
    return path
