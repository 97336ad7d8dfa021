"""Words and numbers for people: names made harmless, near misses found, sizes and times put shortly."""

from collections.abc import Iterable

# Joiners and spaces that ordinary names in Persian, Hindi, French, Japanese and emoji are written with.
_ORDINARY = frozenset("\u200c\u200d\u00a0\u202f\u3000")
_DECIMAL = ("kB", "MB", "GB", "TB", "PB", "EB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_AGES = ((86400, "day"), (3600, "hour"), (60, "minute"))


def safe(text: str | bytes) -> str:
    r"""A name of any origin, harmless for terminal and journal: what cannot be seen is spelled out.

    Control characters, escape sequences, bidirectional controls and bytes that are no UTF-8 become backslash
    escapes. Twice safe is as good as once.

    >>> safe("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    >>> safe(b"caf\xe9")
    'caf\\xe9'
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _ORDINARY else _spelled(char) for char in text)


def _spelled(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # an undecodable byte, as os.fsdecode keeps it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, or None where none comes close.

    >>> nearest("sorces", ["sources", "exclude"])
    'sources'
    """
    from difflib import get_close_matches  # only needed once something went wrong

    known = {candidate.casefold(): candidate for candidate in candidates}
    found = get_close_matches(word.casefold()[:100], known, n=1)
    return known[found[0]] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: a guess in brackets, or nothing.

    >>> did_you_mean("hom", ["home"])
    " (did you mean 'home'?)"
    """
    guess = nearest(word, candidates)
    return f" (did you mean '{safe(guess)}'?)" if guess is not None else ""


def human_bytes(count: float) -> str:
    """A size in bytes, in the decimal units that drives are sold in.

    >>> human_bytes(999), human_bytes(1_500_000), human_bytes(25_000_000_000)
    ('999 B', '1.5 MB', '25 GB')
    """
    if abs(count) < 1000:
        return f"{count:.0f} B"
    power = 1
    while abs(count) >= 999.5 * 1000**power and power < len(_DECIMAL):
        power += 1
    value = count / 1000**power
    return f"{value:.{1 if abs(value) < 9.95 else 0}f} {_DECIMAL[power - 1]}"


def human_duration(seconds: float) -> str:
    """A length of time in its two largest units, cut down, never rounded up.

    >>> human_duration(0.4), human_duration(125), human_duration(7200), human_duration(90061)
    ('0 s', '2 min 5 s', '2 h', '1 d 1 h')
    """
    whole = max(0, int(seconds))
    for position, (span, unit) in enumerate(_SPANS):
        if whole >= span:
            count, rest = divmod(whole, span)
            smaller, name = _SPANS[min(position + 1, len(_SPANS) - 1)]
            return f"{count} {unit}" + (f" {rest // smaller} {name}" if rest >= smaller else "")
    return "0 s"


def human_age(seconds: float) -> str:
    """How long ago something was; a negative age lies ahead.

    >>> human_age(5), human_age(3700), human_age(200_000), human_age(-180)
    ('just now', '1 hour ago', '2 days ago', 'in 3 minutes')
    """
    for span, unit in _AGES:
        if (count := int(abs(seconds)) // span) > 0:
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "just now" if seconds >= 0 else "in a moment"
