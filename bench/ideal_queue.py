"""What a queue could do at best: times to the first token that a server reaches which takes exactly the engine's time
for each prompt and loses nothing between two. Pure arithmetic, seconds in and out."""

import heapq
import math


def percentile(values, share):
    """By the nearest rank, as `winnow load` counts; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def first_come_first_served(arrivals):
    """Times to the first token of [(arrival, work)], in their order, which is that of arrival."""
    free_at, times = 0.0, []
    for arrival, work in arrivals:
        free_at = max(free_at, arrival) + work
        times.append(free_at - arrival)
    return times


def least_work_first(arrivals):
    """The same when the prompt with the least work left always runs, whatever it interrupts: no order has a lower mean."""
    times = [0.0] * len(arrivals)
    coming = sorted(range(len(arrivals)), key=lambda i: arrivals[i][0])
    waiting, now, following = [], 0.0, 0  # (work left, number)
    while waiting or following < len(coming):
        if not waiting:
            now = max(now, arrivals[coming[following]][0])
        while following < len(coming) and arrivals[coming[following]][0] <= now:
            number = coming[following]
            heapq.heappush(waiting, (arrivals[number][1], number))
            following += 1
        left, number = heapq.heappop(waiting)
        until = arrivals[coming[following]][0] if following < len(coming) else math.inf
        if now + left <= until:
            now += left
            times[number] = now - arrivals[number][0]
        else:
            heapq.heappush(waiting, (left - (until - now), number))
            now = until
    return times


def rate_at(share, mix, work_of):
    """Requests a second that keep a server busy for `share` of the time; mix: [(kind, weight)], work_of(kind): seconds."""
    weights = sum(weight for _, weight in mix)
    return share * weights / sum(weight * work_of(kind) for kind, weight in mix)


def summary_ms(times):
    """{"mean", "p50", "p99", "last"} in milliseconds."""
    values = list(times)
    return {"mean": round(mean(values) * 1e3, 2), "p50": round(percentile(values, 0.5) * 1e3, 2),
            "p99": round(percentile(values, 0.99) * 1e3, 2), "last": round(max(values, default=0.0) * 1e3, 2)}
