"""The library as others use it: installed, moved elsewhere, found by CMake and
by pkg-config, and as a part of another project's build."""

import os
import re
import subprocess

import pytest

from support import cli

BUILD = cli.ROOT / "build" / "release"
EXAMPLES = cli.ROOT / "examples"
TEXT = ("The lighthouse keeper wrote his diary every night. He noted that the "
        "ferry to the island is called Marigold. Storms came and went. ") * 6
QUESTION = "What is the ferry to the island called?"


def run(*command, **options):
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("LD_LIBRARY_PATH", "CMAKE_PREFIX_PATH")}
    done = subprocess.run(
        list(map(str, command)), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False, timeout=1500,
        env=environment | options.pop("env", {}), **options)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An install that was moved to a prefix it was not made for."""
    folder = tmp_path_factory.mktemp("install")
    run("cmake", "--install", BUILD, "--prefix", folder / "made")
    return (folder / "made").rename(folder / "moved")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def build_examples(folder, *flags):
    run("cmake", "-S", EXAMPLES, "-B", folder, "-G", "Ninja",
        "-DCMAKE_BUILD_TYPE=Release", *flags)
    run("ninja", "-C", folder)
    return folder


def answer_of_the_command():
    done = cli.call("run", "--chat", "-p", f"{TEXT}\n{QUESTION}", "-n", 64,
                    "--kv", "snapkv-wide,keep=0.3,from=0")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def try_examples(folder, text, session):
    answer = run(folder / "answer", cli.MODEL, text, QUESTION)
    assert answer.startswith(answer_of_the_command() + "\n")
    assert "entries kept in" in answer
    ask = [folder / "stored_session", cli.MODEL, text, session, QUESTION]
    first = run(*ask)
    assert re.match(re.escape(QUESTION) + r"\n  \S", first)
    stored = cli.call_json("session", "info", session)
    assert stored["spec"] == "kvzip,keep=0.3"
    assert run(*ask) == first, "from the file as from what was read"
    rows = run(folder / "compare_caches", cli.MODEL, 1, "snapkv-wide,keep=0.4")
    assert re.fullmatch(r"full: [01] of 1\nsnapkv-wide,keep=0.4: [01] of 1\n",
                        rows)


def libraries(path):
    """What the loader takes for `path`, by name."""
    return dict(re.findall(r"^\s*(\S+) => (\S+)", run("ldd", path), re.M))


def test_only_what_users_need_is_installed(prefix):
    files = {str(path.relative_to(prefix)) for path in prefix.rglob("*")
             if not path.is_dir()}
    headers = {f"include/pyramidkv/{path.name}" for path in
               (cli.ROOT / "include" / "pyramidkv").iterdir()}
    assert {file for file in files if file.endswith(".h")} == headers
    assert not [file for file in files if file.endswith(".a")]
    for file in ("bin/pyramidkv", "lib/libpyramidkv.so",
                 "lib/pyramidkv/libllama.so.0", "lib/pkgconfig/pyramidkv.pc",
                 "lib/cmake/pyramidkv/pyramidkvConfig.cmake",
                 "share/doc/pyramidkv/LICENSE",
                 "share/doc/pyramidkv/LICENSE.llama.cpp",
                 "share/doc/pyramidkv/LICENSE.llama-cpp-python"):
        assert file in files
    texts = [path for path in prefix.rglob("*")
             if path.suffix in (".cmake", ".pc")]
    assert texts
    for path in texts:  # no place of this machine
        for place in (cli.ROOT, prefix.parent):
            assert str(place) not in path.read_text(), path


def test_installed_binaries_stand_alone(prefix):
    ours = prefix / "lib"
    for path in (prefix / "bin" / "pyramidkv", ours / "libpyramidkv.so"):
        found = libraries(path)
        inside = {name: place for name, place in found.items()
                  if name.startswith(("libllama", "libggml"))}
        assert inside
        for name, place in inside.items():
            assert os.path.realpath(place).startswith(
                os.path.realpath(ours)), f"{name} from {place}"
        assert "not" not in found.values()
        paths = run("readelf", "-d", path)
        assert str(cli.ROOT) not in paths
    done = run(prefix / "bin" / "pyramidkv", "run", "--no-chat", "-m",
               cli.MODEL, "-p", "1, 2, 3, 4, 5, 6,", "-n", 6)
    assert " 7, 8" in done


def test_examples_with_the_installed_package(prefix, text, tmp_path):
    folder = build_examples(tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    try_examples(folder, text, tmp_path / "a.session")


def test_pkg_config(prefix, text, tmp_path):
    env = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "pyramidkv", env=env)
    run("c++", "-std=c++20", EXAMPLES / "answer.cc", *flags.split(),
        f"-Wl,-rpath,{prefix / 'lib'}", "-o", tmp_path / "answer")
    answer = run(tmp_path / "answer", cli.MODEL, text, QUESTION)
    assert answer.startswith(answer_of_the_command())


def test_examples_with_the_sources(text, tmp_path):
    """Nothing of ours reaches the project that adds us but the target. The
    build stays, so that the next one is quick."""
    folder = build_examples(cli.ROOT / "build" / "examples",
                            f"-DPYRAMIDKV_SOURCE={cli.ROOT}")
    try_examples(folder, text, tmp_path / "a.session")
    command = next(line for line in
                   run("ninja", "-C", folder, "-t", "commands", "answer"
                       ).splitlines() if "examples/answer.cc" in line)
    assert "-march" not in command and "-ffp-contract" not in command
    includes = re.findall(r"-I(\S+)|-isystem (\S+)", command)
    assert [a or b for a, b in includes] == [str(cli.ROOT / "include")]
    assert not list((folder / "pyramidkv").rglob("*_test"))
