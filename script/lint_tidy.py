#!/usr/bin/env python3
"""Runs clang-tidy on the C++ sources that changed (--all: on every one).

A file that passed is not looked at again until it, what it includes or the
configuration changes: stamps lie in build/release/tidy.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import subprocess
import sys

TIDY = "clang-tidy-14"
BUILD = pathlib.Path("build/release")
STAMPS = BUILD / "tidy"


def git(*arguments):
    """The lines that git prints; none if it fails (no such commit)."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def base_commit():
    """Where this branch left main; on main itself, the commit before."""
    head = git("rev-parse", "HEAD")
    for main in ("main", "origin/main"):
        base = git("merge-base", main, "HEAD")
        if base and base != head:
            return base[0]
    return (git("rev-parse", "--verify", "-q", "HEAD~1") or [None])[0]


def changed_files():
    files = set(git("ls-files", "-o", "--exclude-standard"))
    files.update(git("diff", "--name-only", "--cached"))
    files.update(git("diff", "--name-only"))
    base = base_commit()
    if base:
        files.update(git("diff", "--name-only", base))
    return files


def compiled_files():
    root = pathlib.Path.cwd()
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    return {
        str(pathlib.Path(c["file"]).relative_to(root))
        for c in commands
        if pathlib.Path(c["file"]).is_relative_to(root)
    }


def dependencies():
    """For every source that was compiled, the files of the tree it includes."""
    listed = subprocess.run(
        ["ninja", "-C", str(BUILD), "-t", "deps"], capture_output=True, text=True
    ).stdout
    root = f"{pathlib.Path.cwd()}/"
    includes = {}
    for entry in listed.split("\n\n"):
        paths = [line.strip() for line in entry.split("\n")[1:]]
        ours = [p.removeprefix(root) for p in paths if p.startswith(root)]
        if ours:  # the source itself comes first
            includes[ours[0]] = sorted(p for p in ours if p[0] != ".")
    return includes


def digest_of(file, includes):
    """Of everything that decides what clang-tidy says about `file`."""
    headers = git("ls-files", "-co", "--exclude-standard", "*.h")
    digest = hashlib.sha256(file.encode())
    for path in (".clang-tidy", file, *includes.get(file, headers)):
        if os.path.exists(path):
            digest.update(pathlib.Path(path).read_bytes())
    return digest.hexdigest()


def check(file, includes):
    """What clang-tidy complains about in `file`; empty if nothing."""
    stamp = STAMPS / digest_of(file, includes)
    if stamp.exists():
        return ""
    done = subprocess.run(
        [TIDY, "--quiet", "-p", str(BUILD), file],
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        stamp.touch()
        return ""
    return done.stdout or done.stderr


def main():
    files = compiled_files()
    if "--all" not in sys.argv[1:]:
        files &= changed_files()
    files = sorted(f for f in files if os.path.exists(f))
    STAMPS.mkdir(parents=True, exist_ok=True)
    includes = dependencies()
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for complaint in pool.map(lambda f: check(f, includes), files):
            if complaint:
                failed += 1
                print(complaint.rstrip(), file=sys.stderr)
    if failed:
        print(f"clang-tidy: {failed} of {len(files)} files", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
