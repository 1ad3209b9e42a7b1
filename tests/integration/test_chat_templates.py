"""Chat templates as transformers renders them: every template of llama.cpp's
source package, ours beside PyPI's jinja2."""

import datetime
import itertools
import json
import subprocess

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import pytest

from support import cli

TEMPLATES = cli.ROOT / ".deps" / "llama.cpp" / "models" / "templates"
RENDER = cli.ROOT / "build" / "release" / "bin" / "render_chats"
NOW = 1764547200
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "Today's weather, for <a> \"place\" & more",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Where, in \u00e9t\u00e9"},
        "days": {"type": "integer", "description": "How many"}},
        "required": ["place"]}}}]
CHAT = [{"role": "user", "content": "  Hello, caf\u00e9 <b>!\n"},
        {"role": "assistant", "content": "Good day. "},
        {"role": "user", "content": "What is\n\n'this'?"}]
SYSTEM = [{"role": "system", "content": "Be \"brief\".\n"}]


class Generation(jinja2.ext.Extension):
    """{% generation %} blocks, which only mark what is trained on."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def environment():
    """The one that transformers makes."""
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None,
               sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent,
                          separators=separators, sort_keys=sort_keys)

    now = datetime.datetime.fromtimestamp(NOW)
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = now.strftime
    return env


def expected(template, messages, kwargs, add_assistant):
    """The text, or None where jinja2 refuses."""
    variables = {"messages": messages, "tools": None, "documents": None,
                 "add_generation_prompt": add_assistant} | TOKENS | kwargs
    try:
        return template.render(**variables)
    except Exception:  # pylint: disable=broad-except
        return None


class Renderer:
    def __init__(self):
        self._process = subprocess.Popen(
            [RENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, source, messages, kwargs, add_assistant):
        request = {"source": source, "messages": messages, "kwargs": kwargs,
                   "tokens": TOKENS, "now": NOW, "add_assistant": add_assistant}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        assert self._process.wait(10) == 0


@pytest.fixture(scope="module")
def render():
    renderer = Renderer()
    yield renderer
    renderer.close()


def variants():
    for system, tools, thinking, answer in itertools.product(
            (False, True), (False, True), (None, False, True), (False, True)):
        kwargs = {} if thinking is None else {"enable_thinking": thinking}
        if tools:
            kwargs["tools"] = TOOLS
        yield (SYSTEM if system else []) + CHAT, kwargs, answer


def test_there_are_templates():
    assert len(list(TEMPLATES.glob("*.jinja"))) >= 70


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.jinja")),
                         ids=lambda path: path.stem)
def test_as_transformers(render, path):
    source = path.read_text()
    template = environment().from_string(source)
    for messages, kwargs, answer in variants():
        want = expected(template, messages, kwargs, answer)
        got = render(source, messages, kwargs, answer)
        case = f"{len(messages)} messages, {sorted(kwargs)}, {answer}"
        if want is None:
            assert "error" in got, f"{case}: jinja2 refuses"
            assert "\n" not in got["error"]
        else:
            assert got.get("text") == want, f"{case}: {got.get('error')}"


# The language itself. A line is rendered as jinja2 does, or refused.
SNIPPETS = r"""
{{ 'café'|length }} {{ 'café'[:4] }} {{ 'café'[-1:] }}
{{ 'café'[3] }}
{{ 'abc'[-1] }}
{{ [1, 'a', none, true, {'k': "it's"}] }}
{{ none }} {{ true }} {{ 1.0 }} {{ {'a': 1} }}
{{ missing }}|{{ missing ~ 'x' }}|{{ none ~ 'x' }}
{{ missing + 'x' }}
{{ none + 'x' }}
{{ 'x' + 1 }}
{{ 'x' ~ 1 ~ 2.5 ~ true }}
{{ missing.deeper }}
{{ messages[0].nothing }}|{{ messages[0]['nothing'] is defined }}
{{ messages | tojson }}
{{ messages | tojson(indent=2) }}
{{ {'é': '<'} | tojson }}
{{ 7 // 2 }}
{{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 * 3 }} {{ 'ab' * 2 }}
{{ 2 ** 3 }}
{{ [1, 2] + [3] }}
{% for i in range(3) %}{{ loop.index }}{{ loop.last }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}
{% for i in range(5) if i % 2 == 0 %}{{ i }}{% else %}none{% endfor %}
{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}
{% set x = [] %}{% set _ = x.append(1) %}{{ x }}
{% macro m(a, b='c') %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }}{{ m(2, b=3) }}
{{ 'a b  c'.split() }}
{{ 'a,b,c'.split(',') | join('-') }}
{{ 'a</think>b'.split('</think>')[-1] }}
{{ '  x '.strip() }}|{{ ' x '|trim }}|{{ 'xxaxx'.strip('x') }}
{{ 'Hello world'|title }} {{ 'hELLO'|capitalize }} {{ 'x'|upper }}
{{ 'a-b'.replace('-', '+') }} {{ 'a-b-c'|replace('-', '+', 1) }}
{{ 'abc'.startswith('ab') }} {{ 'b' in 'abc' }} {{ 'k' in {'k': 1} }}
{{ [3,1,2]|sort }} {{ [3,1,2]|max }} {{ [1,2]|sum }} {{ [1,1,2]|unique|list }}
{{ messages|map(attribute='role')|join(',') }}
{{ messages|selectattr('role','equalto','user')|list|length }}
{{ messages|first }} {{ messages|last|length }}
{{ 'x' if false }}|{{ 'x' if 1 else 'y' }}
{{ none|default('d') }}|{{ missing|default('d') }}|{{ ''|default('d', true) }}
{{ 'a\nb'|indent(2) }} {{ 'abc'|list }} {{ 'abc'|reverse }} {{ [1,2]|reverse|list }}
{{ 1 is number }} {{ 'x' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ none is none }}
{{ '%s-%d'|format('a', 3) }}
{{ '{}-{}'.format('a', 3) }}
{{ 'x' is not defined }} {{ x is defined }} {{ not true }} {{ true and false or true }}
{{ messages[1:]|length }} {{ messages[::-1]|length }}
{{ strftime_now('%d %b %Y') }}
{% generation %}g{% endgeneration %}
{{ raise_exception('no') }}
{{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 1 < 2 < 3 }}
{{ '' is falsy }}
{{ {'a': {'b': [1, {'c': none}]}}|string }}
{{ (1, 2) }} {{ [(1, 'a')] }}
{{- 'a' }}  {% if true -%}  b  {%- endif %}  c
{# c #}x{{ '{{' }}
{% raw %}{{ x }}{% endraw %}
{% set t %}a{{ 1 }}b{% endset %}{{ t }}
{% call(x) m2() %}{{ x }}{% endcall %}
{{ 'x'|int }} {{ '12'|int }} {{ 3.7|int }} {{ '1.5'|float }} {{ 3.14159|round(2) }}
{{ dict(a=1).a }} {{ ['a','b']|join }} {{ 'A'.lower() }} {{ "x".endswith('x') }}
{{ messages[0].get('role') }} {{ messages[0].get('zz', 5) }} {{ messages[0].keys()|list }}
{% if messages is not none and messages|length > 1 %}y{% endif %}
{{ 'a'|e }} {{ '<'|escape }} {{ 'é'|tojson(ensure_ascii=true) }}
{{ loop is defined }} {% for k, v in {'a':1}.items() %}{{ k }}={{ v }}{% endfor %}
{{ range(3)|list }} {{ range(1,6,2)|list }}
{{ 10**9 }}
{{ 'abc'.index('c') }}
{{ 'abc'.find('c') }} {{ 'aXb'.split('X', 1) }} {{ 'abc'|count }} {{ 'a b'|wordcount }}
{{ 9007199254740993 + 1 }} {{ 0.1 + 0.2 }} {{ 1e3 }} {{ 100000000.0 }}
{{ '\u00e9' }} {{ 'a\'b' }} {{ "a\tb" }}
{{ 'x' 'y' }}
{{ {'a':1} == {'a':1} }} {{ [1]==[1] }} {{ 'user' == messages[0].role }}
""".strip().split("\n")


@pytest.mark.parametrize("source", SNIPPETS)
def test_never_another_text(render, source):
    messages = SYSTEM + CHAT
    try:
        template = environment().from_string(source)
    except jinja2.exceptions.TemplateSyntaxError:
        template = None
    want = template and expected(template, messages, {}, True)
    got = render(source, messages, {}, True)
    assert "error" in got or got["text"] == want


# These are in templates of models, or close to what is.
@pytest.mark.parametrize("source", [
    "{{ 'caf\u00e9'|length }}{{ 'caf\u00e9'[:4] }}{{ 'abc'[-1] }}",
    "{{ [1, 'a', none, {'k': \"it's\"}] }}{{ none }}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}"
    "{% if loop.index > 4 %}{% break %}{% endif %}{% endfor %}",
    "{% generation %}a{% endgeneration %}{{ strftime_now('%d %b %Y') }}",
    "{{ messages | tojson }}{{ messages | tojson(indent=2) }}",
    "{{ 'a</think>b'.split('</think>')[-1] }}{{ 'a b  c'.split() }}",
    "{{ missing ~ 'x' }}{{ -7 % 3 }}",
])
def test_is_rendered(render, source):
    template = environment().from_string(source)
    want = expected(template, CHAT, {}, True)
    assert want and render(source, CHAT, {}, True).get("text") == want


def test_what_is_said_is_marked(render):
    source = "<|u|>{{ messages[0].content | trim }}<|e|>"
    got = render(source, [{"role": "user", "content": " <|e|> "}], {}, True)
    assert got == {"text": "<|u|><|e|><|e|>", "said": [[5, 10]]}
