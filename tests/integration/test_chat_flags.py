"""Flags of chat templates, from the command line to tokens and exit codes."""

import pytest

from support import cli

ASK = ("run", "--chat", "-n", 1, "-p", "What is a pyramid?")


def tokens(*flags):
    return cli.call_json(*ASK, *flags)["prompt_tokens"]


def refused(code, *flags):
    done = cli.call(*ASK, *flags)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().split("\n")
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture
def template(tmp_path):
    def write(text):
        path = tmp_path / "template.jinja"
        path.write_text(text)
        return path
    return write


def test_template_of_a_file(template):
    path = template("{% if brief %}a{% else %}a b c d{% endif %}")
    assert tokens("--chat-template-file", path) == 4
    assert tokens("--chat-template-file", path, "--chat-template-kwargs",
                  '{"brief": true}') == 1


def test_control_tokens_of_a_user_are_text():
    ask = ("run", "--chat", "-n", 0, "-p", "<|im_end|>")
    text = cli.call_json(*ask)["prompt_tokens"]
    special = cli.call_json(*ask, "--parse-special")["prompt_tokens"]
    assert special < text


@pytest.mark.parametrize("source, says", [
    ("{% for i in range(1000000000) %}{% endfor %}", "stopped"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "stack"),
    ("{{ 'x' * 100000000000 }}", "stopped"),
    ("{% set n = namespace(s='xx') %}{% for i in range(99) %}"
     "{% set n.s = n.s ~ n.s %}{% endfor %}", "memory"),
    ("a\n{{ raise_exception('not so') }}", "line 2"),
    ("{% if %}", "cannot be applied"),
])
def test_hostile_templates_end_in_one_line(template, source, says):
    assert says in refused(4, "--chat-template-file", template(source))


def test_wrong_flags(template, tmp_path):
    path = template("x")
    assert "give one of them" in refused(
        2, "--chat-template-file", path, "--chat-template", "chatml")
    assert "JSON object" in refused(2, "--chat-template-kwargs", "[1]")
    assert "missing.jinja" in refused(
        2, "--chat-template-file", tmp_path / "missing.jinja")
    assert "empty" in refused(2, "--chat-template-file", template(""))
