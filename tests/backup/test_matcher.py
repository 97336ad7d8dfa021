"""The one judge of what is left out, compared with git itself."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usbbackup.backup.matcher import PRESETS, Matcher

Tree = dict[bytes, bool]  # path in the source -> is it a directory


def kept(matcher: Matcher, tree: Tree) -> set[bytes]:
    """What a walk from the top down would keep."""
    out: set[bytes] = set()
    for path in sorted(tree):
        parent, slash, name = path.rpartition(b"/")
        if parent and parent not in out:
            continue
        if not matcher.excludes(parent + slash, name, tree[path]):
            out.add(path)
    return out


def grown(paths: list[bytes]) -> Tree:
    """The tree that has these paths as its leaves."""
    tree: Tree = {}
    for path in paths:
        parts = path.split(b"/")
        tree.update({b"/".join(parts[:depth]): True for depth in range(1, len(parts))})
        tree.setdefault(path, False)
    return tree


@pytest.mark.parametrize(
    ("patterns", "out", "stays"),
    [
        (["*.iso"], ["a.iso", "d/b.iso"], ["iso", "a.iso.txt"]),
        (["/top"], ["top"], ["d/top"]),
        (["dir/"], ["dir/x", "a/dir/x"], ["a/dir2/x", "b/dir"]),
        (["a/b"], ["a/b"], ["x/a/b"]),
        (["a/**"], ["a/x", "a/y/z"], ["b/x"]),
        (["**/a/b"], ["a/b", "x/y/a/b"], ["a/x/b"]),
        (["a/**/b"], ["a/b", "a/x/y/b"], ["b"]),
        (["*.d", "!a.d"], ["a.d/x.d", "b.d"], ["a.d/x"]),
        (["*", "!keep*"], ["x", "keep_dir/x"], ["keep_me"]),
        (["voilà"], ["voilà"], ["voil"]),
        (["x y "], ["x y"], ["x"]),
        ([r"\#x", r"\!y"], ["#x", "!y"], ["x", "y"]),
        (["#x"], [], ["#x"]),
        (["new*line"], ["new\nline", "new\n/x", "d\n/new\nline"][:1], ["new"]),
        (["end"], ["end"], ["end\n"]),
        (["[[]a"], ["[a"], ["a"]),
    ],
)
def test_patterns_mean_what_gitignore_says(patterns: list[str], out: list[str], stays: list[str]) -> None:
    names = kept(Matcher(patterns), grown([os.fsencode(path) for path in out + stays]))
    assert names.isdisjoint(os.fsencode(path) for path in out)
    assert names.issuperset(os.fsencode(path) for path in stays)


def test_nothing_below_an_excluded_directory_is_taken_back() -> None:
    tree = grown([b"cache/keep/me"])
    assert kept(Matcher(["cache/", "!cache/keep"]), tree) == set()


def test_undecodable_names_are_judged_as_bytes() -> None:
    tree = grown([b"caf\xe9.iso", b"caf\xe9", b"\xff/x"])
    assert kept(Matcher(["*.iso"]), tree) == {b"caf\xe9", b"\xff", b"\xff/x"}


@pytest.mark.parametrize("pattern", ["!", "a\\"])
def test_a_pattern_that_is_none_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="no exclude pattern"):
        Matcher([pattern])


def test_an_unknown_preset_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'cache'.*caches, trash"):
        Matcher([], ["cache"])


@pytest.mark.parametrize(
    ("preset", "path"),
    [
        ("caches", b".cache"),
        ("caches", b"david/.config/app/Code Cache"),
        ("trash", b".local/share/Trash"),
        ("trash", b"disk/.Trash-1000"),
        ("downloads", b"Downloads"),
        ("downloads", b"david/Downloads"),
        ("node_modules", b"src/web/node_modules"),
        ("virtual_machines", b"david/VirtualBox VMs"),
        ("containers", b"david/.local/share/containers"),
    ],
)
def test_presets_leave_out_what_they_are_named_for(preset: str, path: bytes) -> None:
    tree = grown([path + b"/x"])
    assert path in kept(Matcher([]), tree)
    assert path not in kept(Matcher([], [preset]), tree)
    assert path in kept(Matcher([f"!/{path.decode()}/"], [preset]), tree), "the user's own word comes last"


def test_downloads_deep_in_a_project_are_no_downloads() -> None:
    tree = grown([b"src/web/Downloads/x"])
    assert kept(Matcher([], list(PRESETS)), tree) == set(tree)


SEGMENT = st.sampled_from(["a", "b", "ab", "a.d", "b.d", "x y", "é", "A"])
WILD = st.sampled_from(["*", "**", "?", "a*", "*b", "*.d", "[ab]", "[!a]", "a?", "*a*", r"\a", "a*b"])


@st.composite
def gitignore_lines(draw: st.DrawFn) -> str:
    body = "/".join(draw(st.lists(SEGMENT | WILD, min_size=1, max_size=4)))
    bang = draw(st.sampled_from(["", "", "!"]))
    start = draw(st.sampled_from(["", "", "/"]))
    return f"{bang}{start}{body}{draw(st.sampled_from(['', '', '/']))}"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the judge here")
@settings(max_examples=120)
@given(
    lines=st.lists(gitignore_lines(), min_size=1, max_size=5),
    paths=st.lists(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12),
)
def test_agrees_with_git(lines: list[str], paths: list[str]) -> None:
    top = Path(tempfile.mkdtemp())
    tree = planted(top, grown([os.fsencode(path) for path in paths]))
    assert kept(Matcher(lines), tree) == kept_by_git(top, lines, tree)
    shutil.rmtree(top)


def planted(top: Path, tree: Tree) -> Tree:
    """The tree on disk; directories win where two paths disagree."""
    for path, directory in sorted(tree.items()):
        place = top / os.fsdecode(path)
        place.mkdir() if directory else place.touch()
    return tree


def kept_by_git(top: Path, lines: list[str], tree: Tree) -> set[bytes]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "-q", "."], cwd=top, env=env, check=True)
    (top / ".git/info/exclude").write_text("".join(f"{line}\n" for line in lines))
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=top,
        env=env,
        input=b"".join(path + b"\0" for path in tree),
        capture_output=True,
        check=False,
    )
    assert asked.returncode in (0, 1), asked.stderr
    return set(tree) - set(asked.stdout.split(b"\0"))
