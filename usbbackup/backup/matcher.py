"""Which entries of a source are left out: gitignore patterns and named presets, one judge for every engine.

Patterns are relative to each source and mean what they mean in a `.gitignore` (gitignore(5)), on bytes. A
directory that is left out is never entered, so nothing below it can be taken back by a later `!pattern`.
"""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import pathspec

# A pattern without a slash in its middle holds at any depth. Directories marked by a CACHEDIR.TAG belong to
# `caches` as well (https://bford.info/cachedir/); the scan looks for the mark while it lists a directory.
PRESETS: dict[str, tuple[str, ...]] = {
    "caches": (
        ".cache/",
        ".ccache/",
        ".thumbnails/",
        "__pycache__/",
        ".mypy_cache/",
        ".pytest_cache/",
        ".ruff_cache/",
        "**/.npm/_cacache/",
        "**/.gradle/caches/",
        "**/.cargo/registry/",
        "**/.config/**/Cache/",
        "**/.config/**/Code Cache/",
        "**/.config/**/GPUCache/",
        "**/.var/app/*/cache/",
        "/var/cache/",
    ),
    "trash": ("**/.local/share/Trash/", ".Trash/", ".Trash-*/", "/lost+found/"),
    "downloads": ("/Downloads/", "/*/Downloads/"),
    "node_modules": ("node_modules/",),
    "virtual_machines": (
        "*.vdi",
        "*.vmdk",
        "*.qcow2",
        "*.vhd",
        "*.vhdx",
        "VirtualBox VMs/",
        "**/.local/share/gnome-boxes/images/",
        "**/.local/share/libvirt/images/",
        "**/.vagrant.d/boxes/",
        "/var/lib/libvirt/images/",
    ),
    "containers": (
        "**/.local/share/containers/",
        "**/.local/share/docker/",
        "/var/lib/containers/",
        "/var/lib/docker/",
        "/var/lib/containerd/",
    ),
}

# How pathspec ends the regular expression of a pattern that may also match through a parent directory, and
# what that end becomes for the entry itself: the first two in 1.x, the others in 0.12.
_ENDS = (
    (r"(?:(?P<ps_d>/)|$)", r"/?\Z"),
    (r"(?P<ps_d>/)", r"/\Z"),
    (r"(?:(?P<ps_d>/).*)?$", r"/?\Z"),
    (r"(?P<ps_d>/).*$", r"/\Z"),
)
_PLAIN = r"[^*?\[\]\\!#/\x00-\x1f\x7f]+"


@dataclass(frozen=True)
class _Rule:
    excludes: bool
    regex: re.Pattern[bytes]
    marked: bool  # a directory is shown to it with a slash behind its name


class Matcher:
    """The rules of one job, ready to judge names; ValueError with a sentence where a pattern is none."""

    def __init__(self, patterns: Sequence[str], presets: Sequence[str] = ()) -> None:
        lines = [line for preset in presets for line in _preset(preset)]
        lines += [_everything_below(pattern) for pattern in patterns]
        with warnings.catch_warnings():  # of `[[]`, which Python may one day read in another way
            warnings.simplefilter("ignore", FutureWarning)
            rules = [rule for line in lines for rule in _rules(line)]
        self.tagged_caches = "caches" in presets
        self.any_rules = bool(rules)
        self._rules = tuple(reversed(rules))
        self._hints = _Hints.of(line for line in lines if not line.startswith(("!", "#")))

    def excludes(self, parent: bytes, name: bytes, directory: bool) -> bool:
        """Is the entry `name` left out? `parent` is the path of its directory in the source: empty, or with a
        slash at its end. The caller never asks for what lies below a directory that is left out.
        """
        hints = self._hints
        if not (
            name in hints.names or name.startswith(hints.heads) or name.endswith(hints.tails) or hints.any
        ):
            return False
        path = parent + name
        marked = path + b"/" if directory else path
        for rule in self._rules:
            if rule.regex.search(marked if rule.marked else path):
                return rule.excludes
        return False


@dataclass(frozen=True)
class _Hints:
    """What a name must look like for any pattern to match it: the last segments of all of them."""

    names: frozenset[bytes]
    heads: tuple[bytes, ...]
    tails: tuple[bytes, ...]
    any: bool  # some pattern does not say how a name begins or ends

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Self:
        names: set[bytes] = set()
        heads: set[bytes] = set()
        tails: set[bytes] = set()
        anything = False
        for pattern in patterns:
            last = pattern.rstrip().removesuffix("/").rpartition("/")[2]
            if re.fullmatch(_PLAIN, last):
                names.add(os.fsencode(last))
            elif head := re.match(_PLAIN, last):
                heads.add(os.fsencode(head.group()))
            elif tail := re.search(_PLAIN + r"\Z", last):
                tails.add(os.fsencode(tail.group()))
            else:
                anything = anything or last != ""
        return cls(frozenset(names), tuple(heads), tuple(tails), anything)


def _preset(name: str) -> tuple[str, ...]:
    if name not in PRESETS:
        raise ValueError(f"there is no exclude preset '{name}'; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def _everything_below(pattern: str) -> str:
    # For git `a/**/` means every directory below `a`; pathspec would take `a` itself, with its files.
    return pattern.rstrip() + "*/" if re.search(r"(^|/)\*\*/ *\Z", pattern) else pattern


def _rules(line: str) -> Iterable[_Rule]:
    try:
        patterns = list(pathspec.GitIgnoreSpec.from_lines([line]).patterns)
    except ValueError:
        raise ValueError(f"'{line}' is no exclude pattern (see gitignore(5))") from None
    for pattern in patterns:
        if isinstance(pattern, pathspec.RegexPattern) and pattern.include is not None and pattern.regex:
            yield _rule(pattern.include, pattern.regex.pattern)


def _rule(excludes: bool, regex: str) -> _Rule:
    """The pattern for the entry itself: a match through a parent counts for nothing.

    It matters after `!`: with `*.d` and `!a.d`, the file `a.d/x.d` is still left out.
    """
    for end, own in _ENDS:
        if regex.endswith(end):
            return _Rule(excludes, _on_bytes(regex.removesuffix(end) + own), marked=True)
    return _Rule(excludes, _on_bytes(regex), marked=False)


def _on_bytes(regex: str) -> re.Pattern[bytes]:
    # DOTALL: a name may hold a newline.
    return re.compile(os.fsencode(regex), re.DOTALL)
