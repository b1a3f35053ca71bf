"""Right answers, and ledgers that add up."""

import subprocess
import tempfile
import unittest

from harness import BIN, ELEMENT_ENTRIES, NUM_KV_HEADS, NUM_LAYERS, WINDOW, ClusterTest, make_document

DOCUMENT = make_document(tokens=2000, seed=11)
LONG = make_document(tokens=4000, seed=12)


class AnswersTest(ClusterTest):
    options = {"prefill_tp": 2}

    def test_full_and_claa_answer_rightly(self):
        for policy in ("full", "claa"):
            with self.subTest(policy=policy):
                self.assert_answers(DOCUMENT, policy=policy)

    def test_dropping_the_least_token_alone_equals_full(self):
        # The pruned way through the model, with C = N − 1: every kept row at another index than its position from the
        # dropped one on, and nothing lost that the answer needs.
        full = self.ask(DOCUMENT, policy="full")
        count = full["prompt_tokens"]
        pruned = self.ask(DOCUMENT, policy="claa", keep_ratio=(count - 0.5) / count, explain=True)
        self.assertEqual(pruned["kept_tokens"], count - 1)
        dropped = set(range(count)) - set(pruned["kept_positions"])
        self.assertEqual(len(dropped), 1)
        self.assertLess(dropped.pop(), count - WINDOW)
        self.assertGreater(pruned["ledger"]["kv_bytes_full"], pruned["ledger"]["kv_bytes_shipped"])
        self.assertEqual(pruned["token_ids"], full["token_ids"])

    def test_keeping_everything_prunes_nothing(self):
        full = self.ask(DOCUMENT, policy="full")
        kept = self.ask(DOCUMENT, policy="claa", keep_ratio=1.0)
        self.assertEqual(kept["token_ids"], full["token_ids"])
        self.assertEqual(kept["kept_tokens"], full["prompt_tokens"])
        self.assertEqual(kept["ledger"]["kv_bytes_shipped"], full["ledger"]["kv_bytes_full"])

    def test_the_profile_of_the_model_prunes_by_default(self):
        result = self.ask(LONG)
        self.assertEqual(result["kept_tokens"], result["prompt_tokens"] // 10)

    def test_ledger_adds_up(self):
        for policy in ("full", "claa"):
            with self.subTest(policy=policy):
                result = self.ask(LONG, policy=policy)
                ledger = result["ledger"]
                self.assertEqual(ledger["prompt_tokens"], result["prompt_tokens"])
                self.assertEqual(ledger["kept_tokens"], result["kept_tokens"])
                segments = ledger["segments"]
                self.assertEqual(sum(segment["layers"] for segment in segments.values()), NUM_LAYERS)
                for name, segment in segments.items():
                    self.assertEqual(segment["entries_kept"] + segment["entries_pruned"],
                                     result["prompt_tokens"] * segment["layers"] * NUM_KV_HEADS, name)
                entries = sum(segment["entries_kept"] for segment in segments.values())
                full_entries = result["prompt_tokens"] * NUM_LAYERS * NUM_KV_HEADS
                self.assertEqual(ledger["kv_bytes_full"] * entries, ledger["kv_bytes_shipped"] * full_entries)
                self.assertIn(ledger["kv_bytes_full"] / full_entries / ELEMENT_ENTRIES, (2, 4))

    def test_claa_ships_at_most_30_per_cent_of_the_bytes(self):
        ledger = self.ask(LONG, policy="claa", keep_ratio=0.1)["ledger"]
        self.assertLessEqual(ledger["kv_bytes_shipped"], 0.30 * ledger["kv_bytes_full"])

    def test_explain_gives_ascending_positions_with_the_window(self):
        result = self.ask(LONG, policy="claa", keep_ratio=0.1, explain=True)
        positions, count = result["kept_positions"], result["prompt_tokens"]
        self.assertEqual(len(positions), result["kept_tokens"])
        self.assertEqual(positions, sorted(set(positions)))
        self.assertGreaterEqual(positions[0], 0)
        self.assertEqual(positions[-WINDOW:], list(range(count - WINDOW, count)))

    def test_the_same_request_gives_the_same_tokens(self):
        first, second = (self.ask(LONG, policy="claa", explain=True) for _ in range(2))
        self.assertEqual(first["token_ids"], second["token_ids"])
        self.assertEqual(first["kept_positions"], second["kept_positions"])

    def test_without_json_the_text_alone_is_on_stdout(self):
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(DOCUMENT.prompt)
            file.flush()
            child = subprocess.run([BIN / "winnow", "generate", "--address", self.cluster.address,
                                    "--prompt-file", file.name, "--max-tokens", "16"],
                                   capture_output=True, text=True, timeout=120, check=True)
        self.assertEqual(child.stdout.strip(), DOCUMENT.answer)


if __name__ == "__main__":
    unittest.main()
