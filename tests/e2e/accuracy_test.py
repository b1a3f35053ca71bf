"""The rate of exact answers over 40 documents of 2,000 tokens (tools/measure_accuracy; 8,000 by hand)."""

import json
import subprocess
import unittest

from harness import ROOT


class AccuracyTest(unittest.TestCase):
    def test_full_and_claa_find_the_facts(self):
        child = subprocess.run([ROOT / "tools/measure_accuracy", "--tokens", "2000", "--documents", "40"],
                               capture_output=True, text=True, timeout=540, check=False)
        self.assertEqual(child.returncode, 0, child.stderr)
        result = json.loads(child.stdout)
        self.assertEqual(result["documents"], 40)
        self.assertGreaterEqual(result["full"]["rate"], 0.97, result)
        self.assertGreaterEqual(result["claa"]["rate"], 0.95, result)
        self.assertLess(result["claa"]["kept_tokens_mean"], 0.15 * result["prompt_tokens_mean"])


if __name__ == "__main__":
    unittest.main()
