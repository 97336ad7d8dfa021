"""The pictures of the report, as SVG that takes its colours from the page's style sheet."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import Any

from svg import SVG, Circle, Element, Line, Polyline, Rect, Text, Title

from usbbackup.text import human_bytes, safe

WEEKS = 26
_CELL, _GAP = 12, 3  # pixels
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 180, 64, 24, 12
_WEEKDAYS = ((0, "Mon"), (2, "Wed"), (4, "Fri"))


def calendar(outcomes: Mapping[date, tuple[str, str]], today: date) -> str:
    """A square for each day of half a year: its class is an outcome, its title a sentence."""
    first = today - timedelta(days=today.weekday(), weeks=WEEKS - 1)
    days = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    step = _CELL + _GAP
    drawn: list[Element] = [
        Text(x=0, y=20 + row * step + _CELL - 2, class_=["label"], text=name) for row, name in _WEEKDAYS
    ]
    for day in days:
        week, row = divmod((day - first).days, 7)
        outcome, sentence = outcomes.get(day, ("none", "no run"))
        x = 32 + week * step
        drawn.append(
            Rect(
                x=x,
                y=20 + row * step,
                width=_CELL,
                height=_CELL,
                rx=2,
                class_=["day", outcome],
                elements=[_title(f"{day.isoformat()}: {sentence}")],
            )
        )
        if day.day == 1:
            drawn.append(Text(x=x, y=12, class_=["label"], text=f"{day:%b}"))
    return _picture(32 + WEEKS * step, 20 + 7 * step, drawn, "Outcomes by day")


def sizes(series: Mapping[str, Sequence[tuple[float, int]]]) -> str:
    """How large backups were, a line for each job; times are wall seconds."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    begin, end = min(time for time, _ in points), max(time for time, _ in points)
    most = max(size for _, size in points) or 1

    def x(time: float) -> float:
        share = (time - begin) / (end - begin) if end > begin else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - 8), 1)

    def y(size: float) -> float:
        return round(_TOP + (1 - size / most) * (_HEIGHT - _TOP - _BOTTOM), 1)

    drawn: list[Element] = []
    for share in (0.0, 0.5, 1.0):
        level = y(most * share)
        drawn.append(Line(x1=_LEFT, y1=level, x2=_WIDTH, y2=level, class_=["grid"]))
        drawn.append(Text(x=0, y=level + 4, class_=["label"], text=human_bytes(most * share)))
    for moment, anchor in ((begin, "start"), (end, "end")):
        text = date.fromtimestamp(moment).isoformat()
        drawn.append(Text(x=x(moment), y=_HEIGHT - 6, class_=["label", anchor], text=text))
    for number, (job, line) in enumerate(series.items()):
        flat: list[Any] = [coordinate for time, size in line for coordinate in (x(time), y(size))]
        drawn.append(Polyline(points=flat, class_=["line", f"series{number % 6}"]))
        drawn += [
            Circle(
                cx=x(time),
                cy=y(size),
                r=2,
                class_=["dot", f"series{number % 6}"],
                elements=[_title(f"{job}, {date.fromtimestamp(time).isoformat()}: {human_bytes(size)}")],
            )
            for time, size in line
        ]
    return _picture(_WIDTH, _HEIGHT, drawn, "Size of the backups over time")


def _title(text: str) -> Title:
    """What is shown over a point; the library writes text as it is."""
    return Title(text=escape(safe(text)))


def _picture(width: int, height: int, drawn: list[Element], about: str) -> str:
    picture = SVG(viewBox=None, elements=[Title(text=about), *drawn])
    return picture.as_str().replace("<svg ", f'<svg role="img" viewBox="0 0 {width} {height}" ', 1)
