"""The examples in docstrings are true."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import usbbackup

TOP = Path(usbbackup.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(TOP.parent).with_suffix("").parts)
    for path in TOP.rglob("*.py")
    if "    >>> " in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_are_true(module: str) -> None:
    done = doctest.testmod(import_module(module))
    assert done.attempted
    assert not done.failed
