"""The fault matrix as tables: what `make faults` prints, and docs/reliability.md keeps.

fault_page.py RESULTS [PAGE]

RESULTS is what test_faults.py has noted: a line for each cell that was begun, another when it was survived.
Exits with 1 where one was not.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from fault_matrix import ENGINES, FAULTS, MOMENTS, PHASES, POSSIBLE, Cell, cells, faults

BEGIN, END = "<!-- matrix: written by `make faults` -->", "<!-- end of matrix -->"
SURVIVED, FELL, NOT_DONE = "ok", "NOT SURVIVED", "not done"

Done = Mapping[Cell, bool]  # was it survived?


def read(results: Path) -> Done:
    """What was done, by the notes of a run."""
    done: dict[Cell, bool] = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        engine, fault, phase, outcome = json.loads(line)
        cell = Cell(fault, phase, engine)
        done[cell] = done.get(cell, False) or outcome is not None
    return done


def read_page(tables: str) -> Done:
    """What was done, by what the page says."""
    done: dict[Cell, bool] = {}
    engine = ""
    for line in tables.splitlines():
        if line.startswith("### "):
            engine = line[4:].partition(":")[0]
        fault, *shown = [word.strip() for word in line.strip("|").split("|")]
        for phase, word in zip(PHASES[engine], shown, strict=True) if fault in FAULTS else ():
            if word in (SURVIVED, FELL):
                done[Cell(fault, phase, engine)] = word == SURVIVED
    return done


def matrix(done: Done) -> str:
    """All of it, in Markdown."""
    reasons = list(dict.fromkeys(cell.impossible for cell in cells() if cell.impossible))
    tables = [_table(engine, done, reasons) for engine in ENGINES]
    notes = [f"({number}) {reason}  " for number, reason in enumerate(reasons, 1)]
    done_to_it = [f"- **{fault}**: {how}" for fault, how in FAULTS.items()]
    moments = [f"- **{phase}**: {what}" for phase, what in MOMENTS.items()]
    said = ("", "The moments whose names do not say it:", "", *moments, "")
    return "\n".join((*done_to_it, *said, *tables, *notes))


def _table(engine: str, done: Done, reasons: list[str]) -> str:
    rows, phases = [], PHASES[engine]
    for fault in faults(engine):
        cells = [Cell(fault, phase, engine) for phase in phases]
        rows.append(_row(fault, [_shown(cell, done, reasons) for cell in cells]))
    counts = _row("**survived**", [_count(done, engine, phase) for phase in phases])
    missing = sum(cell.engine == engine and cell not in done for cell in POSSIBLE)
    title = f"### {engine}: {_count(done, engine)} survived" + (f", {missing} not done" if missing else "")
    return "\n".join((title, "", _row("", list(phases)), "|---" * (len(phases) + 1) + "|", *rows, counts, ""))


def _shown(cell: Cell, done: Done, reasons: list[str]) -> str:
    if cell.impossible:
        return f"({reasons.index(cell.impossible) + 1})"
    return {True: SURVIVED, False: FELL, None: NOT_DONE}[done.get(cell)]


def _count(done: Done, engine: str, phase: str | None = None) -> str:
    possible = [cell for cell in POSSIBLE if cell.engine == engine and phase in (None, cell.phase)]
    return f"{sum(done.get(cell, False) for cell in possible)} of {len(possible)}"


def _row(first: str, rest: list[str]) -> str:
    return f"| {first} | {' | '.join(rest)} |"


def between(page: str) -> tuple[str, str, str]:
    """What is before the tables of a page, the tables, and what is after them."""
    before, _, rest = page.partition(f"{BEGIN}\n")
    tables, _, after = rest.partition(f"\n{END}")
    return before, tables, after


def main(results: Path, page: Path | None = None) -> int:
    """Print it, and keep it."""
    done = read(results)
    print(matrix(done))
    if page is not None and done:
        before, _, after = between(page.read_text())
        page.write_text(f"{before}{BEGIN}\n{matrix(done)}\n{END}{after}")
    return 0 if done and all(done.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
