"""Real text that every machine with Python has: the standard library's
documentation strings, in the order of their files."""

import ast
import sysconfig
from pathlib import Path


def docstrings():
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.glob("*.py")) + sorted(root.glob("[a-z]*/*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
            text = isinstance(node, kinds) and ast.get_docstring(node)
            if text and len(text) > 200:
                yield text


def token_ids(tokenizer, count):
    """`count` ids of the model; fewer if there is not so much text."""
    ids = []
    for text in docstrings():
        ids += tokenizer.encode(text + "\n\n")
        if len(ids) >= count:
            break
    return ids[:count]
