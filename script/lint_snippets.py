#!/usr/bin/env python3
"""Snippets of C++ in documents and public headers are lines of examples/*.cc.

The examples are compiled and run by the tests, so what a reader copies works.
A snippet is a block of ```cpp in a document, or an indented block in a
header's opening comment; its lines stand in one example in the same order,
where others may stand between them.
"""

import pathlib
import re
import sys

FENCED = re.compile(r"^```cpp\n(.*?)^```", re.MULTILINE | re.DOTALL)


def lines_of(text):
    """Without indentation, empty lines and whole-line comments."""
    stripped = (re.sub(r"\s+// .*", "", line).strip()
                for line in text.split("\n"))
    return [line for line in stripped if line and not line.startswith("//")]


def header_snippets(text):
    """The indented blocks of the comment that opens a header."""
    block = []
    for line in text.split("\n"):
        if not line.startswith("//"):
            break
        if line.startswith("//   "):
            block.append(line[2:])
        elif block:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)


def stands_in(snippet, example):
    rest = iter(example)  # `in` goes on where it found the last line
    return bool(snippet) and all(line in rest for line in snippet)


def main():
    examples = [lines_of(path.read_text())
                for path in pathlib.Path("examples").glob("*.cc")]
    snippets = [(path, block) for path in pathlib.Path(".").glob("*.md")
                for block in FENCED.findall(path.read_text())]
    snippets += [(path, block) for path in pathlib.Path("docs").glob("*.md")
                 for block in FENCED.findall(path.read_text())]
    snippets += [(path, block)
                 for path in pathlib.Path("include/pyramidkv").glob("*.h")
                 for block in header_snippets(path.read_text())]
    wrong = [(path, block) for path, block in snippets
             if not any(stands_in(lines_of(block), example)
                        for example in examples)]
    for path, block in wrong:
        first = (lines_of(block) or ["nothing"])[0]
        print(f"{path}: no example has the snippet that begins with `{first}`",
              file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
