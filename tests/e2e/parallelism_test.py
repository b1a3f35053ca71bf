"""Any number of ranks and any chunk size generate the same tokens (f32)."""

import unittest

from harness import LocalCluster, make_document

DOCUMENT = make_document(tokens=2000, seed=21)
# (prefill ranks, decode ranks, rows of a prefill step). 8 ranks share the model's 4 KV heads in pairs.
VARIANTS = ((1, 1, None), (2, 1, 1000), (4, 2, 333), (8, 1, 64), (1, 2, 37))


def run(prefill_tp, decode_tp, chunk_tokens):
    with LocalCluster(dtype="f32", prefill_tp=prefill_tp, decode_tp=decode_tp, chunk_tokens=chunk_tokens,
                      threads=1) as cluster:
        return {policy: cluster.generate(prompt=DOCUMENT.prompt, policy=policy, max_tokens=16, explain=policy == "claa")
                for policy in ("full", "claa")}


class ParallelismTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.expected = run(*VARIANTS[0])

    def test_one_rank_answers_rightly(self):
        for result in self.expected.values():
            self.assertEqual(result["text"].strip(), DOCUMENT.answer)

    def test_ranks_and_chunks_change_nothing(self):
        for variant in VARIANTS[1:]:
            with self.subTest(variant=variant):
                results = run(*variant)
                for policy, expected in self.expected.items():
                    self.assertEqual(results[policy]["token_ids"], expected["token_ids"], policy)
                    self.assertEqual(results[policy]["prefill_tp"], variant[0])
                # Sums over ranks round differently, so that a score next to the threshold may change sides.
                ours, theirs = (set(r["claa"]["kept_positions"]) for r in (results, self.expected))
                self.assertEqual(len(ours), len(theirs))
                self.assertLessEqual(len(ours - theirs), 2)


if __name__ == "__main__":
    unittest.main()
