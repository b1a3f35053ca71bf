#!/usr/bin/env python3
"""bench/ideal_queue.py: the queues that bench/load_table.py holds the service against."""

import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
from ideal_queue import (  # noqa: E402
    first_come_first_served, least_work_first, percentile, rate_at, summary_ms)


def serve_in_slices(arrivals, slice_s):
    """least_work_first by brute force: the least work left gets each slice of time."""
    left = [work for _, work in arrivals]
    times, now = [0.0] * len(arrivals), 0.0
    while any(left):
        here = [i for i, (at, _) in enumerate(arrivals) if at <= now + 1e-9 and left[i]]
        now += slice_s
        if not here:
            continue
        i = min(here, key=lambda i: (left[i], i))
        left[i] = max(0.0, left[i] - slice_s)
        if left[i] < slice_s / 2:
            left[i], times[i] = 0.0, now - arrivals[i][0]
    return times


class PercentileTest(unittest.TestCase):
    def test_is_the_nearest_rank(self):
        values = list(range(100, 0, -1))
        self.assertEqual([percentile(values, q) for q in (0, 0.5, 0.99, 1)], [1, 50, 99, 100])
        self.assertEqual((percentile([7], 0.99), percentile([], 0.5)), (7, 0))

    def test_a_summary_is_in_milliseconds(self):
        self.assertEqual(summary_ms([0.1, 0.3, 0.2]), {"mean": 200, "p50": 200, "p99": 300, "last": 300})
        self.assertEqual(summary_ms([])["last"], 0)


class QueueTest(unittest.TestCase):
    def test_a_burst_of_equal_prompts_ends_one_after_the_other_in_both_orders(self):
        burst = [(0.0, 0.5)] * 4
        for queue in (first_come_first_served, least_work_first):
            self.assertEqual(sorted(queue(burst)), [0.5, 1.0, 1.5, 2.0])

    def test_an_idle_server_waits_for_the_next_arrival(self):
        for queue in (first_come_first_served, least_work_first):
            self.assertEqual(queue([(1.0, 0.5), (10.0, 2.0)]), [0.5, 2.0])

    def test_first_come_first_served_lets_a_short_prompt_wait(self):
        self.assertEqual(first_come_first_served([(0.0, 10.0), (1.0, 1.0)]), [10.0, 10.0])

    def test_least_work_interrupts_a_long_prompt_but_not_one_that_is_nearly_done(self):
        self.assertEqual(least_work_first([(0.0, 10.0), (1.0, 1.0)]), [11.0, 1.0])
        self.assertEqual(least_work_first([(0.0, 2.0), (1.5, 1.0)]), [2.0, 1.5])

    def test_least_work_agrees_with_slices_of_time(self):
        random_source = random.Random(3)
        for _ in range(20):
            arrivals = [(random_source.randrange(60) / 4, random_source.randrange(1, 12) / 4) for _ in range(12)]
            arrivals.sort()
            for ours, sliced in zip(sorted(least_work_first(arrivals)), sorted(serve_in_slices(arrivals, 0.25))):
                self.assertAlmostEqual(ours, sliced)

    def test_least_work_has_the_lower_mean(self):
        random_source = random.Random(4)
        at, arrivals = 0.0, []
        for _ in range(500):
            at += random_source.expovariate(1.0)
            arrivals.append((at, random_source.choice([0.1, 0.4, 3.0])))
        self.assertLess(sum(least_work_first(arrivals)), sum(first_come_first_served(arrivals)))


class RateTest(unittest.TestCase):
    def test_keeps_the_server_busy_for_the_share(self):
        seconds = {"short": 0.1, "long": 1.0}
        rate = rate_at(0.8, [("short", 3), ("long", 1)], seconds.get)
        self.assertAlmostEqual(rate * (0.75 * 0.1 + 0.25 * 1.0), 0.8)


if __name__ == "__main__":
    unittest.main()
