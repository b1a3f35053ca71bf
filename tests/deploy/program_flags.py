"""The flags that the programs know, by what their help says. Environment: WINNOW_BIN_DIR."""

import functools
import os
import pathlib
import re
import subprocess

BIN = pathlib.Path(os.environ["WINNOW_BIN_DIR"])


def flags_of(arguments):
    """{"max-queue-s": "60", "allow-plaintext": None}; words without dashes are the program's subcommand."""
    pairs = (argument.lstrip("-").partition("=") for argument in arguments if argument.startswith("--"))
    return {name: value if sign else None for name, sign, value in pairs}


@functools.cache
def known_flags(program, command=None):
    """As users write them, with dashes. `winnow canary` takes the options of `winnow generate`, too."""
    words = [command] if command else []
    text = subprocess.run([BIN / program, *words, "--help"], capture_output=True, text=True, check=False, timeout=60).stdout
    flags = {flag.replace("_", "-") for flag in re.findall(r"(?:^ +|, |\(| \| )--([\w-]+)\b", text, re.MULTILINE)}
    assert len(flags) > 5, text
    return flags | known_flags(program, "generate") if command == "canary" else flags


def unknown_flags(program_and_words, arguments):
    """Those of `arguments` that the program does not know."""
    program, *rest = program_and_words
    command = next((word for word in [*rest, *arguments] if not word.startswith("--")), None)
    return set(flags_of(arguments)) - known_flags(program, command)
