"""Draws time series as a small SVG: lines, or areas on top of each other."""

import html
import math

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 34, 28  # margins: axis, legend, title, times
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#e02f44", "#a352cc", "#f2cc0c", "#37872d", "#1f60c4", "#ff780a", "#8f3bb8",
           "#19730e", "#c4162a")
UNITS = {"s": "s", "percentunit": "%", "Bps": "B/s", "reqps": "req/s", "ops": "/s", "bytes": "B", "none": ""}


def readable(value, unit):
    """0.0123 s as 12.3 ms, 2.1e6 B/s as 2.1 MB/s"""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{1000 * value:.3g} ms"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{UNITS[unit]}".strip()
    return f"{value:.3g} {UNITS[unit]}".strip()


def nice_top(value):
    """The least of a few round numbers that is not below."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def stack(series):
    """Each on top of those before it, at the times that all have."""
    times = sorted(set.intersection(*({when for when, _ in points} for _, points in series))) if series else []
    base, stacked = dict.fromkeys(times, 0.0), []
    for name, points in series:
        values = dict(points)
        top = {when: base[when] + values[when] for when in times}
        stacked.append((name, [(when, base[when], top[when]) for when in times]))
        base = top
    return stacked


def draw(title, unit, series, begin, end, stacked=False):
    """`series`: [(name, [(time, value)])], drawn from `begin` to `end`; values that are no numbers are gaps."""
    series = [(name, [(when, value) for when, value in points if not math.isnan(value)]) for name, points in series]
    areas = stack(series) if stacked else None
    highest = max((point[-1] for _, points in (areas or series) for point in points), default=0)
    top = nice_top(highest)

    def x(when):
        return LEFT + (when - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{html.escape(title)}</text>']
    for part in range(5):
        value = top * part / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{readable(value, unit)}</text>')
    for part in range(5):
        when = begin + (end - begin) * part / 4
        out.append(f'<text x="{x(when):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{when - begin:.0f} s</text>')
    for i, (name, points) in enumerate(areas or series):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(f"{x(point[0]):.1f},{y(point[-1]):.1f}" for point in points)
        if stacked:
            under = " ".join(f"{x(when):.1f},{y(low):.1f}" for when, low, _ in reversed(points))
            out.append(f'<polygon points="{line} {under}" fill="{colour}" fill-opacity="0.6"/>')
        else:
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        last = f" {readable(series[i][1][-1][1], unit)}" if series[i][1] else ""
        legend_y = TOP + 6 + 15 * i
        out.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{legend_y}" width="9" height="9" fill="{colour}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 26}" y="{legend_y + 9}">{html.escape(name + last)}</text>')
    return "\n".join(out) + "\n</svg>\n"
