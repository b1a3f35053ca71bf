"""The model's own context, whole: slow, so label soak."""

import unittest

from harness import CONTEXT, TRAINED, ClusterTest, RequestError, make_document, token_prompt


class ContextLimitTest(ClusterTest):
    def test_the_whole_context_works_and_one_token_more_is_refused(self):
        for policy in ("claa", "full"):
            with self.subTest(policy=policy):
                result = self.generate(token_ids=token_prompt(CONTEXT), policy=policy, max_tokens=1, timeout_s=900)
                self.assertEqual(result["prompt_tokens"], CONTEXT)
                self.assertEqual(len(result["token_ids"]), 1)
        with self.assertRaisesRegex(RequestError, f"INVALID_ARGUMENT.*{CONTEXT}"):
            self.generate(token_ids=token_prompt(CONTEXT + 1), max_tokens=1)

    def test_a_document_of_the_longest_length_it_learned_is_answered(self):
        # Beyond it the model itself is wrong, whatever it attends to (models/demo/README.md).
        document = make_document(tokens=TRAINED - 200, seed=41)
        for policy in ("claa", "full"):
            with self.subTest(policy=policy):
                self.assert_answers(document, policy=policy)


if __name__ == "__main__":
    unittest.main()
