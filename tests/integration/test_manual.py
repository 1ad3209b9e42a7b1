"""What an install brings beside the program: manual pages and completion."""

import shutil
import subprocess

import pytest

from support import cli

COMMANDS = ("run", "chat", "plan", "bench", "eval", "session", "models",
            "doctor")


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    help2man = shutil.which("help2man") or ""
    done = subprocess.run(
        ["cmake", f"-DCOMMAND={cli.BINARY}", "-DVERSION=0.1.0",
         f"-DOUTPUT={folder}", f"-DHELP2MAN={help2man}", "-P",
         cli.ROOT / "cmake" / "MakeManual.cmake"],
        capture_output=True, text=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    return folder


@pytest.mark.skipif(shutil.which("help2man") is None, reason="no help2man")
def test_every_command_has_a_page(manual):
    pages = {page.name for page in (manual / "man1").iterdir()}
    assert pages == {"pyramidkv.1", *(f"pyramidkv-{c}.1" for c in COMMANDS)}
    for command in COMMANDS:
        text = (manual / "man1" / f"pyramidkv-{command}.1").read_text()
        assert ".SH SYNOPSIS" in text and ".SH OPTIONS" in text
        assert "Examples:" in text or "EXAMPLES" in text
        assert f"pyramidkv {command}" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_what_their_shell_reads(manual, shell):
    script = manual / f"completion.{shell}"
    assert all(command in script.read_text() for command in COMMANDS)
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_completes(manual):
    def complete(line):
        done = subprocess.run(
            ["fish", "-c", f"source {manual / 'completion.fish'}; "
             f"complete -C '{line}'"], capture_output=True, text=True)
        return [row.split("\t")[0] for row in done.stdout.splitlines()]
    assert complete("pyramidkv sess") == ["session"]
    assert "snapkv-wide" in complete("pyramidkv run --kv snapkv")
    assert complete("pyramidkv eval pass") == ["passkey"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(manual):
    done = subprocess.run(
        ["bash", "-c", f"source {manual / 'completion.bash'}; "
         "COMP_WORDS=(pyramidkv sess); COMP_CWORD=1; _pyramidkv; "
         "echo ${COMPREPLY[@]}"], capture_output=True, text=True)
    assert done.stdout.split() == ["session"]
