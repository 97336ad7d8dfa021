"""The rules between the keys of `config.yaml`, and the defaults that follow from other keys."""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from usbbackup.config_keys import ENCRYPTED, FILE, FOR_ENGINE, HOME, NEEDS
from usbbackup.shapes import twice
from usbbackup.strict_yaml import Mapping, Node, Problem, Scalar, Sequence
from usbbackup.text import did_you_mean, safe


def read(root: Node, home: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The values in a tree, ready to become a Config where there are no problems.

    The rules between keys are asked only when each key by itself is right.
    """
    found: list[Problem] = []
    values = FILE.read(root, found)
    if not found:
        _complete(values, home)
        found += _rules(root, values)
    return values, sorted(found)


def _complete(values: dict[str, Any], home: Path) -> None:
    """Fill in the defaults that depend on other keys, and say paths in full."""
    for drive in values.get("drives", ()):
        drive.setdefault("name", drive.get("label") or drive.get("uuid") or "")
    for job in values["jobs"]:
        if "passcommand" in job:
            job.setdefault("encryption", ENCRYPTED[0])
        if "sources" in job:
            job["sources"] = [_full(path, home) for path in job["sources"]]
        for command in (
            job.get("command"),
            job.get("passcommand"),
            *job.get("before", ()),
            *job.get("after", ()),
        ):
            _find(command, home)
    notify = values.get("notify", {})
    _find(notify.get("command"), home)
    if "prometheus" in notify:
        notify["prometheus"] = _full(notify["prometheus"], home)
    for drive in values.get("drives", ()):
        _find(drive.get("unlock", {}).get("passcommand"), home)


def _full(path: str, home: Path) -> str:
    """An absolute path without `~`, doubled or trailing slashes; symbolic links are left as they are."""
    written = f"{home}/{path[2:]}" if path.startswith("~/") else path
    return "/" + posixpath.normpath(written).lstrip("/")


def _find(command: list[str] | None, home: Path) -> None:
    """No shell will ever see a command, so a `~/` before the program's name is ours to resolve."""
    if command and command[0].startswith("~/"):
        command[0] = _full(command[0], home)


def _rules(root: Node, values: dict[str, Any]) -> Iterator[Problem]:
    drives = _items(root, "drives")
    for node, drive in zip(drives, values.get("drives", ()), strict=True):
        if "label" not in drive and "uuid" not in drive:
            yield Problem(node.at, "a drive needs a label or a uuid")
    yield from _once("name", drives, [drive["name"] for drive in values.get("drives", ())])
    names = {drive["name"] for drive in values.get("drives", [{"name": "backup"}])}
    jobs = _items(root, "jobs")
    yield from _once("name", jobs, [job["name"] for job in values["jobs"]])
    for node, job in zip(jobs, values["jobs"], strict=True):
        yield from _foreign_keys(node, job)
        yield from _encryption(node, job)
        yield from _sources(node, job)
        yield from _unknown_drives(node, job, names)
        if job.get("layout") == "mirror" and "keep" in job:
            yield Problem(node.keys["keep"], "layout mirror has no snapshots: leave 'keep' out")


def _items(root: Node, word: str) -> list[Mapping]:
    """The tables in the list under a key; FILE has made sure of what they are."""
    node = root.values.get(word) if isinstance(root, Mapping) else None
    return [item for item in node.items if isinstance(item, Mapping)] if isinstance(node, Sequence) else []


def _once(word: str, nodes: list[Mapping], names: list[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for node, name in zip(nodes, names, strict=True):
        at = node.values[word].at if word in node.values else node.at
        if name in first:
            yield Problem(at, f"the name '{safe(name)}' is taken (first in line {first[name]})")
        first.setdefault(name, at.line)


def _foreign_keys(node: Mapping, job: dict[str, Any]) -> Iterator[Problem]:
    engine = job["engine"]
    for key, engines in FOR_ENGINE.items():
        if key in job and key in node.keys and engine not in engines:
            yield Problem(
                node.keys[key], f"'{key}' is for engine {' or '.join(engines)}; this job's is {engine}"
            )
    needed = NEEDS[engine]
    if needed not in job:
        there = node.values.get(needed)
        tilde = HOME if isinstance(there, Scalar) and there.written == "~" else ""
        yield Problem(there.at if there else node.at, f"engine {engine} needs the key '{needed}'{tilde}")


def _encryption(node: Mapping, job: dict[str, Any]) -> Iterator[Problem]:
    if job["engine"] != "borg":
        return
    match job.get("encryption"), "passcommand" in job:
        case None, False:
            yield Problem(
                node.at,
                "engine borg needs a passcommand, or 'encryption: none' if the backup may be read by anyone",
            )
        case "none", True:
            yield Problem(node.keys["passcommand"], "a passcommand has no use with 'encryption: none'")
        case str(kind), False if kind != "none":
            yield Problem(node.values["encryption"].at, f"encryption {kind} needs a passcommand")


def _sources(node: Mapping, job: dict[str, Any]) -> Iterator[Problem]:
    """Twice the same is a slip; one inside the other makes sense only where file systems are not crossed."""
    sources = job.get("sources", [])
    listed = node.values.get("sources")
    if not isinstance(listed, Sequence):
        return
    yield from twice(sources, listed)
    if job.get("one_file_system", True):
        return
    known = set(sources)
    for path, item in zip(sources, listed.items, strict=True):
        if parent := next((str(above) for above in Path(path).parents if str(above) in known), None):
            yield Problem(item.at, f"'{safe(path)}' is already part of the source '{safe(parent)}'")


def _unknown_drives(node: Mapping, job: dict[str, Any], names: set[str]) -> Iterator[Problem]:
    listed = node.values.get("drives")
    if isinstance(listed, Sequence):
        for name, item in zip(job["drives"], listed.items, strict=True):
            if name not in names:
                guess = did_you_mean(name, names)
                yield Problem(item.at, f"no drive is named '{safe(name)}'{guess}")
