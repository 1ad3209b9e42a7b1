"""Runs the table of README.md."""

import os
import re
import subprocess
from pathlib import Path

import files
import pytest
from support import cli
from terminal import Terminal

TABLE = Path(__file__).with_name("README.md")
SECONDS = 300


def rows():
    """(command, way, exit code, stream, pattern) of each row."""
    found = []
    for line in TABLE.read_text().splitlines():
        if not line.startswith("| `"):
            continue
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        cells = [cell.strip().replace("\\|", "|") for cell in cells]
        command, way, code, stream, pattern = cells
        found.append((command.strip("`"), way, int(code), stream, pattern))
    return found


ROWS = rows()


def environment(home):
    env = cli.environment(
        PATH=f"{Path(cli.BINARY).parent}:{os.environ['PATH']}",
        HOME=str(home), TERM="xterm", LC_ALL="C.UTF-8")
    return env | {"XDG_DATA_HOME": str(home / "data")}


def run(command, way, folder, env):
    """(exit code, {stream: text})"""
    if way == "pty":
        with Terminal(["sh", "-c", command], folder, env) as terminal:
            code = terminal.finish(SECONDS)
            return code, {"tty": terminal.text}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=env, text=True, input="",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS)
    return done.returncode, {"out": done.stdout, "err": done.stderr}


def test_there_are_sixty():
    assert len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_row(row, tmp_path):
    command, way, code, stream, pattern = row
    folder = tmp_path / "work"
    folder.mkdir()
    documents = files.write(folder)
    got, streams = run(command, way, folder, environment(tmp_path))
    assert got == code, streams
    if pattern == "silent":
        assert streams[stream] == ""
    else:
        assert re.search(pattern, streams[stream]), streams
    for name, content in documents.items():
        assert (folder / name).read_bytes() == content, f"{name} was changed"


def test_a_paste_is_one_turn(tmp_path):
    files.write(tmp_path)
    with Terminal([cli.BINARY, "chat", "-n", "4"], tmp_path,
                  environment(tmp_path)) as terminal:
        terminal.wait_for("> ")
        terminal.type("\x1b[200~One line,\nand another.\x1b[201~")
        terminal.type("\r")
        terminal.wait_for("> ")
        terminal.type("/stats\r")
        shown = terminal.wait_for("peak RSS")
        terminal.type("/exit\r")
        assert terminal.finish() == 0
    alone = subprocess.run(
        [cli.BINARY, "chat", "-n", "4"], text=True, env=environment(tmp_path),
        input="One line,\\\nand another.\n/stats\n", stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, check=True).stdout
    count = re.compile(r"read (\d+) tokens")
    assert count.search(shown)[1] == count.search(alone)[1]


def test_a_pipe_that_says_nothing_is_no_document(tmp_path):
    reader, writer = os.pipe()  # nobody writes, nobody closes
    try:
        done = subprocess.run(
            [cli.BINARY, "run", "-p", "Say yes.", "-n", "2"], stdin=reader,
            env=environment(tmp_path), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=SECONDS)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 0
    assert "waiting for a document" in done.stderr
    assert "nothing came" in done.stderr
    assert done.stdout.strip()
