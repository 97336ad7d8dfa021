"""The page on reliability keeps the whole fault matrix."""

import json
from pathlib import Path

from fault_matrix import POSSIBLE
from fault_page import between, matrix, read, read_page
from people import REPOSITORY


def test_the_page_on_reliability_has_a_place_for_every_fault_at_every_moment_and_tells_of_no_fall() -> None:
    """`make faults` writes it."""
    tables = between((REPOSITORY / "docs/reliability.md").read_text())[1]
    done = read_page(tables)
    assert tables == matrix(done)
    assert done
    assert all(done.values())


def test_what_was_begun_and_not_survived_is_told_of(tmp_path: Path) -> None:
    first, second, *_ = POSSIBLE
    notes = [[cell.engine, cell.fault, cell.phase, None] for cell in (first, second)]
    notes.append([second.engine, second.fault, second.phase, "failed"])
    (tmp_path / "results").write_text("".join(json.dumps(note) + "\n" for note in notes))
    done = read(tmp_path / "results")
    assert done == {first: False, second: True}
    tables = matrix(done)
    assert tables.count("NOT SURVIVED") == 1
    assert tables.count("not done") > len(POSSIBLE) - 2
    assert read_page(tables) == done
