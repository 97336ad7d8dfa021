"""The first configuration: what the loader reads from it is what was wished for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.config import load
from usbbackup.errors import UsageError
from usbbackup.install.first_config import Wish, checked, from_home, text, written
from usbbackup.strict_yaml import parse

HOME = Path("/home/anna")


def loaded(wish: Wish, tmp_path: Path):  # type: ignore[no-untyped-def]
    path = tmp_path / "config.yaml"
    path.write_bytes(checked(written(wish), HOME))
    return load(path, HOME)


def test_a_script_for_whatever_carries_the_label(tmp_path: Path) -> None:
    wish = Wish(engine="command", job="script", trust="label", command=("/home/anna/bin/b.sh",))
    config = loaded(wish, tmp_path)
    assert config.jobs[0].command == ("/home/anna/bin/b.sh",)
    assert (config.drives[0].label, config.drives[0].trust) == ("backup", "label")


def test_all_that_can_be_said_of_files(tmp_path: Path) -> None:
    wish = Wish(
        engine="borg",
        uuid="1234-ABCD",
        label="mine: #1",
        any_bus=True,
        sources=("~/", "/srv/what: ever"),
        exclude=("*.iso", "!x"),
        presets=("caches", "downloads"),
        every="1d",
        passcommand=("cat", "/home/anna/y"),
    )
    config = loaded(wish, tmp_path)
    job, drive = config.jobs[0], config.drives[0]
    assert (drive.name, drive.label, drive.uuid, drive.bus) == ("mine: #1", None, "1234-ABCD", "any")
    assert job.sources == ("/home/anna", "/srv/what: ever")
    assert (job.exclude, job.exclude_presets) == (("*.iso", "!x"), ("caches", "downloads"))
    assert (job.every, job.passcommand, job.encryption) == (86400, ("cat", "/home/anna/y"), "repokey-blake2")


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1))
def test_every_text_is_read_as_itself(word: str) -> None:
    node = parse(f"a: [{text(word)}]".encode())
    assert node.values["a"].items[0].value == word  # type: ignore[union-attr]


def test_what_the_loader_refuses_is_not_written() -> None:
    with pytest.raises(UsageError, match="expected a duration such as"):
        checked(written(Wish(every="daily")), HOME)


def test_paths_in_the_home_are_written_as_people_do() -> None:
    assert [from_home(Path(path), HOME) for path in ("/home/anna", "/home/anna/a b", "/home/annabel")] == [
        *("~/", "~/a b", "/home/annabel")
    ]
