"""The page on supervision shows what works, and leaves no public name out."""

import ast
import contextlib
import io
import re
from pathlib import Path

from usbbackup import otp

PAGE = (Path(__file__).parents[2] / "docs/supervision.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_first_example_has_ten_lines_and_prints_what_the_page_says() -> None:
    lines = [line for line in EXAMPLES[0].splitlines() if line.strip()]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(EXAMPLES[0], {})  # noqa: S102 - to run it is the point
    assert (len(lines), out.getvalue()) == (10, "42\n")
    assert "It prints 42." in PAGE


def test_every_example_is_python() -> None:
    for example in EXAMPLES:
        compile(example, "supervision.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_public_name_is_explained() -> None:
    assert [name for name in otp.__all__ if not re.search(rf"\b{name}\b", PAGE)] == []
