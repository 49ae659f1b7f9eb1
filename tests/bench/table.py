# SPDX-License-Identifier: MIT
"""Rows of the table: what was measured, against whom, and the bar."""

import statistics


class Bar:
    """A bar against a peer: exed's figure divided by the peer's must be at most `must` (better="less") or at
    least so (better="more"). peer=None: the figure itself."""

    def __init__(self, peer, must, aim=None):
        self.peer, self.must, self.aim = peer, must, aim


class Row:
    """One measurement. `run(bench, row)` calls row.add for each round; figures of several rounds become
    one: the least, since what else runs on a machine only ever adds (better="more": the greatest)."""

    def __init__(self, key, title, unit, run, bars=(), better="less", short=False):
        self.key, self.title, self.unit, self.run = key, title, unit, run
        self.bars, self.better, self.short = list(bars), better, short
        self.clear()

    def clear(self):
        self.figures, self.notes, self.skipped, self.error = {}, [], {}, None

    def add(self, who, value):
        self.figures.setdefault(who, []).append(value)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def skip(self, who, why):
        self.skipped[who] = why

    def best(self, who):
        values = self.figures.get(who)
        if not values:
            return None
        return min(values) if self.better == "less" else max(values)

    def spread(self, who):
        """How far the middle of the rounds is from the best one, in percent."""
        best = self.best(who)
        return 100 * abs(statistics.median(self.figures[who]) - best) / best if best else 0.0

    def ratio(self, bar):
        own = self.best("exed")
        if own is None or bar.peer is None:
            return own
        other = self.best(bar.peer)
        return own / other if other else None

    def verdict(self, bar, slack=1.0):
        """"aim", "must", "misses" or "" (not measured). slack: how far over the bar still passes."""
        ratio = self.ratio(bar)
        if ratio is None:
            return ""

        def reached(limit):
            if limit is None:
                return False
            return ratio <= limit * slack if self.better == "less" else ratio >= limit / slack

        if reached(bar.aim):
            return "aim"
        return "must" if reached(bar.must) else "misses"


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return "{:,.0f}".format(value)
    return "%.3g" % value


def _bars(row):
    lines = []
    for bar in row.bars:
        against = "%s x %s" % (number(bar.must), bar.peer) if bar.peer else number(bar.must)
        ratio = row.ratio(bar)
        verdict = row.verdict(bar)
        if bar.peer and bar.peer in row.skipped:
            verdict = "skipped"
        lines.append((against, "-" if ratio is None else number(ratio), verdict or "not measured"))
    return lines or [("", "", "")]


def lines_of(row):
    """The row as lines of (what, figures, bar, ratio, verdict)."""
    whom = sorted(row.figures, key=lambda who: (who != "exed", row.best(who)))
    figures = ["%s %s (+%.0f%%)" % (who, number(row.best(who)), row.spread(who)) for who in whom]
    bars = _bars(row)
    title = ["%s [%s]" % (row.title, row.unit)] + ["  " + note for note in row.notes]
    title += ["  %s skipped: %s" % item for item in sorted(row.skipped.items())]
    if row.error:
        title.append("  FAILED: " + row.error)
    count = max(len(title), len(figures), len(bars))
    for i in range(count):
        what = title[i] if i < len(title) else ""
        figure = figures[i] if i < len(figures) else ""
        yield (what, figure) + (bars[i] if i < len(bars) else ("", "", ""))


def text_table(rows):
    heads = ("what", "figures (median over best)", "bar", "measured", "")
    table = [heads]
    for row in rows:
        table += list(lines_of(row))
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    out = []
    for n, line in enumerate(table):
        out.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        if n == 0:
            out.append("-" * (sum(widths) + 8))
    return "\n".join(out) + "\n"


def markdown(rows):
    out = ["| what | figures | bar | measured | |", "|---|---|---|---|---|"]
    for row in rows:
        lines = list(lines_of(row))
        cells = []
        for i in range(5):
            cells.append("<br>".join(line[i].strip().replace("|", "\\|") for line in lines if line[i].strip()))
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def as_json(rows):
    return [{"key": row.key, "title": row.title, "unit": row.unit, "better": row.better,
             "figures": row.figures, "notes": row.notes, "skipped": row.skipped, "error": row.error,
             "bars": [{"peer": bar.peer, "must": bar.must, "aim": bar.aim, "measured": row.ratio(bar),
                       "verdict": row.verdict(bar)} for bar in row.bars]} for row in rows]
