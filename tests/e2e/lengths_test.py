"""Prompts at the edges: of the window, the budget, the guard rails, the context; and one token of answer."""

import unittest

from harness import END_ID, SHORT, WINDOW, ClusterTest, RequestError, kept_tokens, token_prompt

LIMIT = 512


class EdgeLengthsTest(ClusterTest):
    options = {"max_model_len": LIMIT, "prefill_tp": 2, "chunk_tokens": 100}

    def check(self, num_tokens, keep_ratio=0.1, min_prompt=0, min_kept=0, max_tokens=4):
        expected = kept_tokens(num_tokens, keep_ratio, min_prompt, min_kept)
        result = self.generate(token_ids=token_prompt(num_tokens), policy="claa", keep_ratio=keep_ratio,
                               min_prompt_tokens=min_prompt, min_kept_tokens=min_kept, max_tokens=max_tokens,
                               explain=True)
        self.assertEqual(result["prompt_tokens"], num_tokens)
        self.assertEqual(result["kept_tokens"], expected)
        self.assertGreaterEqual(len(result["token_ids"]), 1)
        if expected < num_tokens:
            self.assertEqual(len(result["kept_positions"]), expected)
        else:  # nothing is pruned: a run like any other
            full = self.generate(token_ids=token_prompt(num_tokens), policy="full", max_tokens=max_tokens)
            self.assertEqual(result["token_ids"], full["token_ids"])

    def test_around_the_window(self):
        for num_tokens in (1, 2, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 2):
            with self.subTest(num_tokens=num_tokens):
                self.check(num_tokens)

    def test_around_the_budget(self):
        for num_tokens in (63, 64, 65):
            with self.subTest(num_tokens=num_tokens):
                self.check(num_tokens, min_kept=64)

    def test_around_the_guard_rail(self):
        for num_tokens in (199, 200, 201):
            with self.subTest(num_tokens=num_tokens):
                self.check(num_tokens, min_prompt=200)

    def test_last_chunk_shorter_than_the_window(self):
        for num_tokens in (201, 203, 207, 208, 209):  # chunks are 100 rows
            with self.subTest(num_tokens=num_tokens):
                self.check(num_tokens)

    def test_the_whole_context_works(self):
        self.check(LIMIT, max_tokens=1)
        self.check(LIMIT - 7, max_tokens=8)

    def test_one_token_more_than_the_context_is_refused(self):
        for num_tokens, max_tokens in ((LIMIT + 1, 1), (LIMIT - 6, 8)):
            with self.subTest(num_tokens=num_tokens):
                with self.assertRaisesRegex(RequestError, f"INVALID_ARGUMENT.*{LIMIT}"):
                    self.generate(token_ids=token_prompt(num_tokens), max_tokens=max_tokens)
        self.check(100)


class FirstTokenTest(ClusterTest):
    def test_a_stop_id_as_first_token_ends_at_once(self):
        prompt = f"<|begin_of_text|><|user|>{SHORT.prompt}<|end|><|assistant|>{SHORT.answer}"
        result = self.generate(prompt=prompt, raw=True, max_tokens=8)
        self.assertEqual(result["token_ids"], [END_ID])
        self.assertEqual(result["text"], "")


class NoDecodeWorkerTest(ClusterTest):
    options = {"decode_workers": 0}

    def test_one_token_needs_no_decode_worker(self):
        result = self.ask(SHORT, max_tokens=1)
        self.assertEqual(len(result["token_ids"]), 1)
        self.assertEqual(result["text"].strip(), SHORT.answer[0])

    def test_two_tokens_do(self):
        with self.assertRaisesRegex(RequestError, "UNAVAILABLE.*decode"):
            self.ask(SHORT, max_tokens=2)


if __name__ == "__main__":
    unittest.main()
