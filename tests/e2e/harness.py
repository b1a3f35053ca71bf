"""What the end-to-end tests share: clusters of their own, documents, checks of answers and refusals."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from document import make_document  # noqa: E402
from local_cluster import BIN, ClusterError, LocalCluster, RequestError, generate_command  # noqa: E402,F401

# The demo model (models/demo/config.json, claa.json).
NUM_LAYERS = 12
NUM_KV_HEADS = 4
VOCAB = 4096
CONTEXT = 32768
TRAINED = 16384  # tokens of the longest documents it learned from
WINDOW = 8
END_ID = 4094  # <|end|>
ELEMENT_ENTRIES = 2 * 64  # K and V of one entry: head_dim elements each

SHORT = make_document(tokens=700, facts=4, seed=7)


def token_prompt(count):
    """`count` ids as the --token-ids flag takes them; short ones, since an argument holds 128 KiB."""
    return ",".join(str(10 + i * 37 % 90) for i in range(count))


def kept_tokens(num_tokens, keep_ratio, min_prompt_tokens, min_kept_tokens):
    """C of docs/design.md §3 with z = 0 and nothing protected, worked out apart from plan/."""
    count = max(WINDOW + 1, min_kept_tokens, int(round(keep_ratio * 1e6)) * num_tokens // 10**6)
    if num_tokens <= count or num_tokens < min_prompt_tokens:
        return num_tokens
    return count


class ClusterTest(unittest.TestCase):
    """One cluster for all tests of a class, with `options` of scripts/cluster up."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(LocalCluster(**cls.options))

    def generate(self, **options):
        return self.cluster.generate(**options)

    def ask(self, document, **options):
        options.setdefault("max_tokens", 16)
        return self.generate(prompt=document.prompt, **options)

    def assert_answers(self, document=SHORT, **options):
        """The cluster gives the right answer."""
        result = self.ask(document, **options)
        self.assertEqual(result["text"].strip(), document.answer)
        return result

    def assert_logs_no_error(self, name):
        """No line of the process's log has the level error; a request that failed there and was tried again has none."""
        self.assertNotRegex(self.cluster.log(name), r"(?m)^\S+ (error|critical) \[")

    def assert_refused(self, code, sentence, **options):
        """The request fails with a status and a sentence that matches, and the cluster goes on."""
        with self.assertRaises(RequestError) as caught:
            self.generate(**options)
        self.assertEqual(caught.exception.code, code, caught.exception.text)
        self.assertRegex(caught.exception.text, sentence)
        self.assert_answers()
