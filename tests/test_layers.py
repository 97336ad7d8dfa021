"""Imports run one way: cli -> agent -> {drives, backup} -> otp -> foundations."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "usbbackup"
MODULES = sorted(PACKAGE.rglob("*.py"))
BELOW = {
    "cli": {"cli", "agent", "install", "drives", "backup", "ecryptfs", "otp", "foundation"},
    "agent": {"agent", "drives", "backup", "ecryptfs", "otp", "foundation"},
    "install": {"install", "drives", "backup", "ecryptfs", "otp", "foundation"},
    "drives": {"drives", "otp", "foundation"},
    "backup": {"backup", "ecryptfs", "otp", "foundation"},
    "ecryptfs": {"ecryptfs", "foundation"},
    "otp": {"otp"},
    "foundation": {"foundation"},
}


def room(dotted: str) -> str:
    """The room that a module of the package is in."""
    parts = dotted.split(".")
    if parts[1:] == ["__main__"]:
        return "cli"
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else "foundation"


def imports(path: Path) -> set[str]:
    """All modules of the package that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "usbbackup"
                else {str(node.module)}
            )
    return {name for name in found if name.split(".")[0] == "usbbackup"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_floor_or_below(path: Path) -> None:
    """No arrow runs upward; otp is usable on its own."""
    own = room(".".join(("usbbackup", *path.relative_to(PACKAGE).with_suffix("").parts)))
    reached = {name: room(name) for name in imports(path)}
    wrong = sorted(name for name, floor in reached.items() if floor not in BELOW[own])
    assert not wrong, f"{path.relative_to(PACKAGE)} ({own}) must not import {', '.join(wrong)}"


def test_every_test_file_has_a_name_of_its_own() -> None:
    """The directories of tests are no packages: pytest could not tell two of one name apart."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
