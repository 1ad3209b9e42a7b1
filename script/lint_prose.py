#!/usr/bin/env python3
"""Sentences that open with "What" or "Of" (see CONTRIBUTING.md, Style).

A reader takes such an opening for a question or loses its end; the subject
comes first. Documents, public headers and the comments of the code have none.
"""

import pathlib
import re
import subprocess
import sys

OPENING = re.compile(
    r"(?:\A|\n[ \t]*\n|(?<=[.!?:])\s+|\|[ \t]+|\n[ \t]*[-*][ \t]+)(What|Of)\s")
COMMENT = re.compile(r"^(\s*)//+ ?(.*)$")
TRAILING = re.compile(r"^((?:[^\"/]|\"(?:\\.|[^\"\\])*\"|/(?!/))*)// ?(.*)$")


def comment_blocks(text):
    """(first line, text) of each run of comment lines, and of trailing ones."""
    block, start = [], 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        whole = COMMENT.match(line)
        if whole:
            start = start if block else number
            block.append(whole.group(2))
            continue
        if block:
            yield start, "\n".join(block)
        trailing = TRAILING.match(line)
        block, start = ([trailing.group(2)], number) if trailing else ([], 0)


def openings(path, text):
    """(line, first words) of each sentence that opens so."""
    blocks = [(1, text)] if path.suffix == ".md" else comment_blocks(text)
    for start, block in blocks:
        for match in OPENING.finditer(block):
            line = start + block.count("\n", 0, match.start(1))
            words = block[match.start(1):match.start(1) + 50].split("\n")[0]
            yield line, words


def tree_files():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], check=True,
        capture_output=True, text=True).stdout.split("\0")
    return [path for path in map(pathlib.Path, filter(None, listed))
            if path.is_file() and path.suffix in (".md", ".h", ".cc")]


def main():
    failed = False
    for path in tree_files():
        if path.name == "CHANGELOG.md":  # says what was said
            continue
        for line, words in openings(path, path.read_text()):
            failed = True
            print(f'{path}:{line}: opens with "{words}": subject first',
                  file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
