"""What a client can do wrong: the right status, a sentence that helps, and nothing lost."""

import subprocess
import unittest

from harness import BIN, CONTEXT, VOCAB, ClusterTest, RequestError, make_document

USAGE = 2  # exit status of a command line that makes no sense


class BadInputTest(ClusterTest):
    def refuse(self, sentence, **options):
        self.assert_refused("INVALID_ARGUMENT", sentence, **options)

    def test_empty_prompt(self):
        self.refuse("(?i)prompt.*empty|empty.*prompt", prompt="", raw=True)

    def test_prompt_longer_than_the_context(self):
        self.refuse(str(CONTEXT), prompt=make_document(tokens=CONTEXT + 1500, seed=3).prompt)

    def test_more_tokens_than_the_context_leaves(self):
        self.refuse(str(CONTEXT), prompt="short", max_tokens=CONTEXT)

    def test_keep_ratio_outside_zero_to_one(self):
        for value in ("0", "-0.5", "nan", "2"):
            with self.subTest(value=value):
                self.refuse(r"keep.ratio.*\(0, 1\]", prompt="hello", keep_ratio=value)

    def test_unknown_policy(self):
        self.refuse("chaff.*full.*claa", prompt="hello", policy="chaff")

    def test_token_id_out_of_range(self):
        for ids in (f"1,2,{VOCAB}", "-1,2"):
            with self.subTest(ids=ids):
                self.refuse(f"(?i)token.*{VOCAB}", token_ids=ids)

    def test_no_tokens_wanted(self):
        self.refuse("max_tokens|max-tokens", prompt="hello", max_tokens=0)

    def test_invalid_utf8(self):
        self.refuse("UTF-8", prompt=b"a stone \xff and a rope")

    def test_text_and_ids_together(self):
        with self.assertRaises(RequestError) as caught:
            self.generate(prompt="hello", token_ids="1,2,3")
        self.assertEqual(caught.exception.exit_status, USAGE)
        self.assertRegex(caught.exception.text, "--prompt-file and --token-ids exclude each other")

    def test_negative_guard_rails(self):
        self.refuse("min_prompt_tokens", prompt="hello", min_prompt_tokens=-1)
        self.refuse("min_kept_tokens", prompt="hello", min_kept_tokens=-1)

    def test_an_unknown_flag_of_the_program_is_named(self):
        child = subprocess.run([BIN / "winnow", "generate", "--no-such-flag"], capture_output=True, text=True,
                               timeout=60, check=False)
        self.assertEqual(child.returncode, USAGE)
        self.assertIn("no-such-flag", child.stderr)


if __name__ == "__main__":
    unittest.main()
