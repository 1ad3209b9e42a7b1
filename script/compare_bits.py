#!/usr/bin/env python3
"""Runs the cases of bit_cases.py with two builds; see script/same_bits."""

import argparse
import array
import concurrent.futures
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading

import bit_cases

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMOLLM2 = os.environ.get("PYRAMIDKV_MODEL",
                         str(ROOT / "models" / "default.gguf"))
GOLDEN = ROOT / "tests" / "golden" / "real_512.json"

# What two runs of one build may differ in, and what names a file.
VOLATILE = re.compile(
    r"_ms$|_per_s$|^(ms|timings|peak_rss_bytes|session|generation|file_bytes"
    r"|format_version|overlap|hit_rate|model_bytes)$")
# Of the first that differ these are named first.
ORDER = ["tokens", "text", "kv.entries_kept", "kv.layers", "kv.retained_mass"]

QUESTIONS = ["Who wrote it?", "What is a tuple?", "Name a type."]


class Side:
    """One of the two builds, with models of its own."""

    def __init__(self, name, bin_dir, folder):
        self.name = name
        self.binary = bin_dir / "pyramidkv"
        self.folder = folder / name
        self.folder.mkdir()

    def model(self, name):
        return SMOLLM2 if name == "smollm2" else self.folder / f"{name}.gguf"

    def run(self, arguments, folder, stdin=""):
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("PYRAMIDKV_")}
        return subprocess.run(
            [self.binary, *map(str, arguments)], input=stdin, text=True,
            errors="replace", capture_output=True, env=environment, cwd=folder,
            timeout=900, check=False)


def prompt_ids(case):
    """Of SmolLM2 real text as far as there is some; else random ones."""
    pick = random.Random(case.prompt)
    if case.model != "smollm2":
        return [pick.randrange(3, bit_cases.VOCABULARY)
                for _ in range(case.prompt)]
    real = json.loads(GOLDEN.read_text())["ids"]
    ids = list(real)
    while len(ids) < case.prompt:
        start = pick.randrange(0, len(real) - 64)
        ids += real[start:start + 64]
    return ids[:case.prompt]


def steps(case, side, shared):
    """The command lines of a case, each a list, and their standard input.

    Files that a step writes are compared if they are *.logits or *.trace.
    """
    ids = prompt_ids(case)
    forced = prompt_ids(bit_cases.Case("", case.model, "",
                                       prompt=case.forced + 1))[1:]
    for name, values in (("prompt", ids), ("forced", forced),
                         ("turn", ids[7:60])):
        (shared / f"{name}.json").write_text(json.dumps(values))
    (shared / "questions.txt").write_text("\n".join(QUESTIONS) + "\n")
    spec = case.spec.replace("{profile}", str(shared / "profile.json"))
    if case.model in bit_cases.PROFILES:
        layers, heads = bit_cases.PROFILES[case.model]
        pick = random.Random(layers)
        (shared / "profile.json").write_text(json.dumps({
            "version": 1, "model": case.model,
            "heads": [[round(pick.random(), 3) for _ in range(heads)]
                      for _ in range(layers)]}))

    threads = [] if "-t" in case.flags else ["-t", 1]
    model = ["-m", side.model(case.model), *threads, *case.flags]
    kv = ["--kv", spec]
    prompt = ["--prompt-tokens", shared / "prompt.json"]
    generate = ["-n", case.forced + case.sampled, "--ignore-eos",
                "--force-tokens", shared / "forced.json"]

    def watch(name):
        return ["--json", "--logits", f"{name}.logits", "--kv-trace",
                f"{name}.trace"]

    if case.kind == "chat":
        lines = ["Name a colour.", "And another?", "/kv", "Why?", "/exit", ""]
        return [(["chat", *model, *kv, "-n", 24], "\n".join(lines))]
    if case.kind == "eval":
        common = ["--trials", 2, "--tokens", 400, "--json", *model, *kv]
        return [(["eval", "needle", "--placement", "agnostic", *common], ""),
                (["eval", "kl", "--score-tokens", 32, *common], "")]
    if case.kind == "run":
        return [(["run", *model, *kv, *prompt, *generate, *watch("run")], "")]

    save = [(["session", "save", "a.session", *model, *kv, *prompt, "-n", 4,
              "--ignore-eos", "--json", "--kv-trace", "save.trace"], ""),
            (["session", "info", "a.session", "--json"], "")]
    if case.kind == "questions":
        return [*save,
                (["session", "ask", "a.session", "--questions",
                  shared / "questions.txt", "-n", 12, "--ignore-eos", "--json",
                  *model], "")]
    turn = ["--prompt-tokens", shared / "turn.json"]
    return [*save,
            (["run", "--load-session", "a.session", *model, *turn, *generate,
              *watch("turn"), "--save-session", "b.session"], ""),
            (["session", "ask", "b.session", *model, *turn, "-n",
              case.sampled, "--ignore-eos", *watch("second")], "")]


def flat(document, path=""):
    """(path, value) of all that must be the same in two documents."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "warnings":  # their words may be mended
                value = len(value)
            if not VOLATILE.search(key):
                yield from flat(value, f"{path}.{key}" if path else key)
    elif isinstance(document, list):
        yield f"{path}[]", len(document)
        for i, value in enumerate(document):
            yield from flat(value, f"{path}[{i}]")
    else:
        yield path, document


def rank(path):
    return next((i for i, name in enumerate(ORDER) if path.startswith(name)),
                len(ORDER))


def documents(text):
    """A JSON document for each line, or the text itself."""
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return None


def compare_stdout(old, new):
    docs = documents(old), documents(new)
    if docs[0] is None or docs[1] is None:
        return None if old == new else "standard output"
    if len(docs[0]) != len(docs[1]):
        return f"{len(docs[0])} documents, now {len(docs[1])}"
    for a, b in zip(*docs):
        before, after = dict(flat(a)), dict(flat(b))
        # New keys may be added to documents.
        wrong = [path for path, value in before.items()
                 if path not in after or after[path] != value]
        if wrong:
            path = min(wrong, key=lambda p: (rank(p), len(wrong)))
            return (f"{path}: {before[path]!r}, now "
                    f"{after.get(path, 'missing')!r}")
    return None


def compare_logits(old, new):
    if old == new:
        return None
    if len(old) != len(new):
        return f"{len(old)} bytes, now {len(new)}"
    a, b = array.array("f", old), array.array("f", new)
    wrong = [i for i, (x, y) in enumerate(zip(a, b)) if x != y]
    if not wrong:
        return "signs of zeros or NaNs"
    most = max(abs(a[i] - b[i]) for i in wrong)
    return (f"{len(wrong)} of {len(a)} values, the first at {wrong[0]}, at "
            f"most {most:.3g} apart")


def compare_trace(old, new):
    """Kept sets in any order of heads."""
    lines = [sorted(sorted(json.loads(line).items())
                    for line in text.splitlines())
             for text in (old.decode(), new.decode())]
    if lines[0] == lines[1]:
        return None
    if len(lines[0]) != len(lines[1]):
        return f"{len(lines[0])} compactions, now {len(lines[1])}"
    first = next(dict(a) for a, b in zip(*lines) if a != b)
    return (f"the first at layer {first['layer']}, head {first['head']}, "
            f"step {first['step']}")


def compare_files(folders):
    names = sorted({path.name for folder in folders
                    for path in folder.iterdir()
                    if path.suffix in (".logits", ".trace")},
                   key=lambda name: name.endswith(".trace"))
    for name in names:
        files = [folder / name for folder in folders]
        if not all(file.exists() for file in files):
            return f"{name}: written by one alone"
        compare = compare_logits if name.endswith("logits") else compare_trace
        wrong = compare(*(file.read_bytes() for file in files))
        if wrong:
            return f"{name}: {wrong}"
    return None


def message(done):
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def compare_steps(case, sides, folders, shared):
    """(verdict, details) of the steps of one case, until one differs."""
    for number, (old, new) in enumerate(
            zip(*(steps(case, side, shared) for side in sides)), 1):
        done = [side.run(command, folder, stdin) for side, folder,
                (command, stdin) in zip(sides, folders, (old, new))]
        where = f"step {number} ({old[0][0]} {old[0][1]})" if number > 1 else ""
        where = where and f"{where}: "
        codes = [d.returncode for d in done]
        if codes[0] != 0:  # refused, or crashed: nothing to compare with
            now = "" if codes[1] == codes[0] else f"; now exit {codes[1]}"
            return "refused", f"{where}{message(done[0])}{now}"
        if codes[1] != 0:
            return "differs", (f"{where}exit 0, now {codes[1]}: "
                               f"{message(done[1])}")
        wrong = (compare_stdout(done[0].stdout, done[1].stdout)
                 or compare_files(folders))
        if wrong:
            return "differs", where + wrong
    return "same", ""


def other_file(case, sides, folders, shared):
    """Whether NEW goes on from OLD's file as OLD does, or refuses it."""
    folder = folders[1] / "old"
    folder.mkdir()
    shutil.copy(folders[0] / "a.session", folder)
    command, stdin = steps(case, sides[1], shared)[2]
    done = sides[1].run(command, folder, stdin)
    if done.returncode == 4:
        return ("same", "") if "version" in done.stderr else (
            "differs", f"OLD's file is refused: {message(done)}")
    if done.returncode != 0:
        return "differs", f"from OLD's file: {message(done)}"
    wrong = compare_logits((folders[0] / "turn.logits").read_bytes(),
                           (folder / "turn.logits").read_bytes())
    return ("differs", f"from OLD's file: {wrong}") if wrong else ("same", "")


def run_case(case, sides, folder):
    work = pathlib.Path(tempfile.mkdtemp(dir=folder))
    folders = [work / side.name for side in sides]
    shared = work / "shared"
    for path in (*folders, shared):
        path.mkdir()
    try:
        verdict, details = compare_steps(case, sides, folders, shared)
        if verdict == "same" and case.kind == "stored":
            verdict, details = other_file(case, sides, folders, shared)
        return verdict, details
    except subprocess.TimeoutExpired as e:
        return "differs", str(e)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def chosen(arguments):
    cases = [case for case in bit_cases.all_cases()
             if case.quick or not arguments.quick]
    if arguments.only:
        cases = [case for case in cases
                 if any(text in case.name for text in arguments.only)]
    if not cases:
        sys.exit("same_bits: no such case")
    return cases


def write_models(cases, sides, writer):
    """The same file for both: a cold tier may store what it found beside."""
    for name in sorted({case.model for case in cases} - {"smollm2"}):
        subprocess.run([writer, sides[0].model(name),
                        f"vocabulary={bit_cases.VOCABULARY}",
                        *bit_cases.TINY[name]], check=True)
        shutil.copy(sides[0].model(name), sides[1].model(name))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-j", type=int, default=os.cpu_count())
    parser.add_argument("-v", action="store_true")
    parser.add_argument("bin_dirs", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    cases = chosen(arguments)
    if arguments.list:
        print("\n".join(case.name for case in cases))
        return 0
    for folder in arguments.bin_dirs:
        if not (folder / "pyramidkv").exists():
            sys.exit(f"same_bits: {folder} has no pyramidkv")

    counts = {"same": 0, "differs": 0, "refused": 0}
    lock = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="same_bits_") as name:
        folder = pathlib.Path(name)
        sides = [Side(side, bin_dir.resolve(), folder) for side, bin_dir
                 in zip(("old", "new"), arguments.bin_dirs)]
        write_models(cases, sides,
                     arguments.bin_dirs[0].resolve() / "write_tiny_gguf")

        def tell(case):
            verdict, details = run_case(case, sides, folder)
            with lock:
                counts[verdict] += 1
                if verdict != "same" or arguments.v:
                    print(f"{verdict:8}{case.name}: {details}".rstrip(": "),
                          flush=True)

        with concurrent.futures.ThreadPoolExecutor(arguments.j) as pool:
            list(pool.map(tell, cases))
    print(f"{sum(counts.values())} cases, {counts['differs']} differ, "
          f"{counts['refused']} refused")
    return 1 if counts["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
