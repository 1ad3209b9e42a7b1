#!/usr/bin/env python3
"""Rules of the tree that compilers do not know (see CONTRIBUTING.md).

Failures: an include against the direction of the folders; a call that a
library must not make; a kernel header that no test includes; an absolute
path of somebody's machine; a file or function that is far too long.
Long ones that are still bearable are only listed.
"""

import pathlib
import re
import subprocess
import sys

# Folders of src/ and what each may include besides itself and the public
# headers: everything nearer to the base. policy, model and text stand side by
# side and do not know each other.
BELOW_RUNTIME = {"base", "kernels", "cache", "policy", "model", "text"}
MAY_INCLUDE = {
    "base": set(),
    "kernels": {"base"},
    "cache": {"base", "kernels"},
    "policy": {"base", "kernels", "cache"},
    "model": {"base", "kernels", "cache"},
    "text": {"base", "kernels", "cache"},
    "runtime": BELOW_RUNTIME,
    "eval": BELOW_RUNTIME | {"runtime"},
}
FRONT_ENDS = {"cli", "server", "bench", "research", "examples"}
# Kernels are timed one by one, and indexes judged on a model's own queries.
for _folder in ("bench", "research"):
    MAY_INCLUDE[_folder] = BELOW_RUNTIME | {"runtime", "eval"}
FOLDERS = set(MAY_INCLUDE) | FRONT_ENDS

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', re.MULTILINE)
FORBIDDEN = re.compile(
    r"(?<![\w.>])(?:std::|::)?"
    r"(?:abort|_?exit|quick_exit|terminate|v?f?printf|puts|perror"
    r"|(?:secure_)?getenv)\s*\("
    r"|\bfmt::print\b|\bstd::(?:cout|cerr|clog)\b"
)
# A child process that the library made ends by itself.
MAY_EXIT = {pathlib.Path("src/base/child_process.cc")}
MACHINE_PATH = re.compile(r"(?<![\w.}-])/(?:work|root)/")

FILE_LINES = (800, 1200)  # listed above the first, refused above the second
FUNCTION_LINES = (100, 200)


def tree_files():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    return sorted(p for p in map(pathlib.Path, filter(None, listed)) if p.is_file())


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # not a text file


def is_test(path):
    return path.name.endswith("_test.cc") or "testing" in path.parts


def folder_of(path):
    """The folder that the include rules name, or None."""
    parts = path.parts
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return parts[0] if parts[0] in FRONT_ENDS | {"include"} else None


def code_only(text):
    """C++ without comments, literals and directives; lines stay in place."""
    pattern = re.compile(
        r"//[^\n]*|/\*.*?\*/"
        r'|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"'
        r'|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Fa-f])\'(?:\\.|[^\'\\\n])+\''
        r"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
        re.DOTALL | re.MULTILINE,
    )
    return pattern.sub(lambda m: "\n" * m.group().count("\n"), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def check_includes(path, text):
    folder = folder_of(path)
    if folder is None:
        return
    for match in INCLUDE.finditer(text):
        target = match.group(1).split("/")
        if ".." in target:
            allowed = False
        elif "testing" in target[:-1]:
            allowed = is_test(path)
        elif target[0] not in FOLDERS or target[0] == folder:
            allowed = True
        else:
            allowed = target[0] in MAY_INCLUDE.get(folder, set())
        if not allowed:
            line = line_of(text, match.start(1))
            yield f"{path}:{line}: {folder} must not include {match.group(1)}"


def check_calls(path, code):
    if path.parts[0] not in ("src", "include") or is_test(path):
        return
    for match in FORBIDDEN.finditer(code):
        call = match.group().rstrip("( ")
        if call == "_exit" and path in MAY_EXIT:
            continue
        line = line_of(code, match.start())
        yield f"{path}:{line}: the library must not call {call}"


def check_machine_paths(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if MACHINE_PATH.search(line):
            yield f"{path}:{number}: a path of one machine: {line.strip()[:60]}"


def check_kernel_tests(files, texts):
    """Every kernel is compared with its scalar reference in some test."""
    kernels = pathlib.Path("src/kernels")
    tests = "\n".join(
        texts[p] for p in files if p.parent == kernels and is_test(p)
    )
    for path in files:
        is_kernel = path.parent == kernels and path.suffix == ".h"
        exempt = path.name.endswith("-inl.h") or path.stem == "scalar_reference"
        if is_kernel and not exempt and f'"kernels/{path.name}"' not in tests:
            yield f"{path}: no test in src/kernels includes this kernel"


NOT_FUNCTION = re.compile(r"^\s*(?:namespace|class|struct|enum|union|extern)\b")
FUNCTION_HEAD = re.compile(
    r"\)\s*(?:const|noexcept|override|final|mutable|try|&+|->[^;]*|:[^;]*|\s)*$"
)


def functions(code):
    """(first line, lines) of each outermost block that follows `(...)`."""
    depth = 0  # of braces inside the function or initialiser
    kind = None  # "function", "other", or None at namespace and class level
    start = head = 0
    for match in re.finditer(r"[{};]", code):
        symbol = match.group()
        if depth > 0:
            depth += {"{": 1, "}": -1}.get(symbol, 0)
            if depth == 0 and kind == "function":
                first = line_of(code, start)
                yield first, line_of(code, match.start()) - first + 1
        elif symbol == "{":
            text = code[head : match.start()]
            if not NOT_FUNCTION.match(text.lstrip()) and text.strip():
                kind = "function" if FUNCTION_HEAD.search(text) else "other"
                start = head + len(text) - len(text.lstrip())
                depth = 1
        head = match.end()


def check_lengths(path, text, code):
    """(message, refused) for the file and its functions."""
    lines = text.count("\n")
    if lines > FILE_LINES[0]:
        yield f"{path}: {lines} lines", lines > FILE_LINES[1]
    for first, length in functions(code) if code else ():
        if length > FUNCTION_LINES[0]:
            message = f"{path}:{first}: a function of {length} lines"
            yield message, length > FUNCTION_LINES[1]


def main():
    files = tree_files()
    texts = {path: read_text(path) for path in files}
    failures, notes = list(check_kernel_tests(files, texts)), []
    for path, text in texts.items():
        is_cpp = path.suffix in (".h", ".cc")
        code = code_only(text) if is_cpp else ""
        failures += check_machine_paths(path, text)
        if is_cpp:
            failures += check_includes(path, text)
            failures += check_calls(path, code)
        if is_cpp or path.suffix in (".py", ".js", ".css") or path.parts[0] == "script":
            for message, refused in check_lengths(path, text, code):
                (failures if refused else notes).append(message)
    for note in notes:
        print(f"note: {note}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
