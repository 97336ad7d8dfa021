"""A configuration is read exactly as it was meant, or refused with file, line, column and a reason."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from usbbackup import config_keys
from usbbackup.backup import matcher
from usbbackup.config import (
    Config,
    DriveConfig,
    JobConfig,
    Keep,
    Verify,
    load,
    schema,
)
from usbbackup.errors import ConfigError
from usbbackup.shapes import Table

HOME = Path("/home/david")
JOB = "jobs:\n  - name: home\n    engine: rsync\n    sources: [~/]\n"
VALIDATOR = jsonschema.Draft202012Validator(schema())


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Load a text as `config.yaml`."""

    def read_text(text: str | bytes) -> Config:
        path = tmp_path / "config.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(path, HOME)

    return read_text


def job(**keys: str) -> str:
    """A configuration with one job, its keys as YAML."""
    given_keys = {"name": "home", "engine": "rsync", "sources": "[~/]"} | keys
    return "jobs:\n  -\n" + "".join(f"    {key}: {value}\n" for key, value in given_keys.items() if value)


def test_the_shortest_configuration_takes_every_default(read: Any) -> None:
    assert read(config_keys.EXAMPLE) == Config(
        jobs=(JobConfig(name="home", engine="rsync", sources=("/home/david",)),),
        drives=(DriveConfig(name="backup", label="backup"),),
    )


def test_a_drive_is_called_by_its_label_else_by_its_uuid(read: Any) -> None:
    config = read(
        f"drives: [{{label: blue, uuid: 1234-ABCD}}, {{uuid: 4444-EEEE}}, {{label: x, name: red}}]\n{JOB}"
    )
    assert [drive.name for drive in config.drives] == ["blue", "4444-EEEE", "red"]
    assert config.drives_of(config.jobs[0]) == config.drives


def test_paths_are_said_in_full(read: Any) -> None:
    config = read(job(sources="[~/, ~/Music//x/, /srv/./data/, /, //etc]", before="[[~/bin/dump, ~/x]]"))
    assert config.jobs[0].sources == ("/home/david", "/home/david/Music/x", "/srv/data", "/", "/etc")
    assert config.jobs[0].before == (("/home/david/bin/dump", "~/x"),)


def test_a_key_without_a_value_counts_as_left_out(read: Any) -> None:
    assert read(job(every="", keep="null", exclude="~")) == read(job())


def test_borg_with_a_passcommand_is_encrypted_unless_said_otherwise(read: Any) -> None:
    (one,) = read(job(engine="borg", passcommand="[secret-tool, lookup]")).jobs
    assert one.encryption == "repokey-blake2"
    (open_one,) = read(job(engine="borg", encryption="none")).jobs
    assert (open_one.encryption, open_one.passcommand) == ("none", None)


def test_a_source_inside_another_is_kept_where_file_systems_are_not_crossed(read: Any) -> None:
    assert read(job(sources="[/, /home]")).jobs[0].sources == ("/", "/home")


ERRORS = {
    "an unknown key": (
        JOB + "    sorces: [/]\n",
        "5:5: unknown key 'sorces' (did you mean 'sources'?)",
    ),
    "an unknown key that is like none": (JOB + "zebra: 1\n", "5:1: unknown key 'zebra'"),
    "a dangerous key": (JOB + '"\\e[31m": 1\n', "5:1: unknown key '\\x1b[31m'"),
    "a duplicate key": (JOB + "    name: x\n", "5:5: duplicate key 'name' (first in line 2)"),
    "no jobs": ("drives: [{label: x}]\n", "1:1: the configuration needs the key 'jobs'"),
    "an empty list of jobs": ("jobs: []\n", "1:7: expected a list of jobs, got an empty one"),
    "jobs without a value": ("jobs:\n", "1:6: expected a list of jobs, got nothing"),
    "an empty file": ("", "1:1: expected the configuration with its keys, got nothing"),
    "a list at the top": ("- a\n", "1:1: expected the configuration with its keys, got a list"),
    "a job that is a word": ("jobs: [home]\n", "1:8: expected a job with its keys, got a text"),
    "a name with capitals": (job(name="Home"), "3:11: 'Home': a job's name has a-z, 0-9"),
    "a name that is a number": (job(name="5"), "3:11: expected a text, got the number 5: write it in quotes"),
    "a name with a newline at its end": (job(name='"a\\n"'), "3:11: 'a\\n': a job's name has"),
    "an unknown engine": (
        job(engine="rsnc"),
        "4:13: expected rsync, borg or command, got 'rsnc' (did you mean 'rsync'?)",
    ),
    "a list for a word": (job(engine="[rsync]"), "4:13: expected rsync, borg or command, got a list"),
    "a single source": (job(sources="~/"), "5:14: expected a list of paths, got a text: write it as [...]"),
    "a tilde alone": (
        job(sources="[~]"),
        "5:15: expected a path, got nothing: write ~/ for your home directory",
    ),
    "a tilde alone, no list": (
        job(sources="~"),
        "5:14: engine rsync needs the key 'sources': write ~/ for your home directory",
    ),
    "a tilde in quotes": (job(sources="['~']"), "5:15: '~': write ~/ for your home directory, or an"),
    "another one's home": (job(sources="[~anna/]"), "5:15: '~anna/': write ~/ for your home"),
    "a relative source": (job(sources="[Music]"), "5:15: 'Music' is not an absolute path: begin it with"),
    "a way out": (job(sources="[~/../anna]"), "5:15: '~/../anna': '..' is not allowed in a path here"),
    "no sources": (job(sources="[]"), "5:14: expected a list of paths, got an empty one"),
    "a source twice": (
        job(sources="[~/, /home/david/]"),
        "5:19: '/home/david' is there twice (first in line 5)",
    ),
    "a source in another": (
        job(sources="[/, /home]", one_file_system="false"),
        "5:18: '/home' is already part of the source '/'",
    ),
    "a NUL in a source": (job(sources='["/a\\0"]'), "5:15: '/a\\x00' contains a character that no program"),
    "half a character": (
        job(sources='["/\\ud800"]'),
        "5:15: '/\\ud800' contains a character that no program",
    ),
    "an endless source": (job(sources="[/" + "a" * 5000 + "]"), "5:15: longer than 4096 characters"),
    "a pattern that is none": (job(exclude='["[z-a]"]'), "6:15: '[z-a]' is not a gitignore pattern: "),
    "a pattern that is a comment": (job(exclude='["#x"]'), "6:15: '#x' matches nothing as a gitignore"),
    "a pattern with a class of characters": (
        job(exclude='["[[:alpha:]]"]'),
        "6:15: '[[:alpha:]]': character classes such as [:alpha:] are not supported",
    ),
    "a pattern of two lines": (job(exclude='["a\\nb"]'), "6:15: 'a\\nb' matches nothing as a gitignore"),
    "an open bracket": (job(exclude='["[a"]'), "6:15: '[a' matches nothing as a gitignore pattern"),
    "an unquoted star": (job(exclude="[*.iso]"), "6:15: a text that starts with '*' must be written in"),
    "an empty pattern": (job(exclude='[""]'), "6:15: expected a text, got an empty one"),
    "an unknown preset": (
        job(exclude_presets="[cache]"),
        "6:23: expected caches, trash, downloads, node_modules, virtual_machines or containers, got 'cache'",
    ),
    "a number for a duration": (
        job(every="5"),
        "6:12: expected a duration such as 90s, 30m, 12h, 1d or 2w, got the number 5",
    ),
    "a duration of nothing": (
        job(every="0d"),
        "6:12: expected a duration such as 90s, 30m, 12h, 1d or 2w, got '0d'",
    ),
    "a duration in words": (job(every="1 day"), "6:12: expected a duration such as 90s, 30m"),
    "an age": (job(every="9999999999w"), "6:12: '9999999999w' is longer than 36500d"),
    "a time of day": (job(every="22:30"), "6:12: '22:30' is a number or a date to some readers of YAML"),
    "yes": (job(one_file_system="yes"), "6:22: 'yes' may mean true, false or the word"),
    "true in quotes": (job(one_file_system="'true'"), "6:22: expected true or false, got a text"),
    "a negative count": (
        job(keep="{last: -1}"),
        "6:18: expected a whole number from 0 to 1000000, got the number -1",
    ),
    "a fraction": (
        job(keep="{last: 1.5}"),
        "6:18: expected a whole number from 0 to 1000000, got the number 1.5",
    ),
    "true for a number": (
        job(keep="{last: true}"),
        "6:18: expected a whole number from 0 to 1000000, got 'true'",
    ),
    "keep as a number": (job(keep="3"), "6:11: expected keep with its keys, got the number 3"),
    "verify without every": (job(verify="{sample: 3}"), "6:13: verify needs the key 'every'"),
    "a hook that is not in a list of its own": (
        job(before="[sync]"),
        "6:14: expected a list of texts, got a text: write it as [...]",
    ),
    "a command as one text": (
        job(engine="command", sources="", command="/bin/x -y"),
        "5:14: expected a list of texts, got a text: write it as [...]",
    ),
    "a command without a program": (
        job(engine="command", sources="", command="[]"),
        "5:14: expected a list of texts, got an empty one",
    ),
    "a command that begins with nothing": (
        job(engine="command", sources="", command="['', x]"),
        "5:14: a command begins with the name of a program",
    ),
    "engine command without one": (
        job(engine="command", sources=""),
        "3:5: engine command needs the key 'command'",
    ),
    "a source of a command": (
        job(engine="command", command="[x]"),
        "5:5: 'sources' is for engine rsync or borg; this job's is command",
    ),
    "encryption for rsync": (
        job(encryption="none"),
        "6:5: 'encryption' is for engine borg; this job's is rsync",
    ),
    "a mirror by borg": (
        job(engine="borg", encryption="none", layout="mirror"),
        "7:5: 'layout' is for engine rsync; this job's is borg",
    ),
    "a mirror that keeps": (
        job(layout="mirror", keep="{last: 1}"),
        "7:5: layout mirror has no snapshots: leave 'keep' out",
    ),
    "borg without a word on encryption": (
        job(engine="borg"),
        "3:5: engine borg needs a passcommand, or 'encryption: none' if the backup may be read by anyone",
    ),
    "encryption without a passphrase": (
        job(engine="borg", encryption="keyfile"),
        "6:17: encryption keyfile needs a passcommand",
    ),
    "a passphrase without encryption": (
        job(engine="borg", encryption="none", passcommand="[x]"),
        "7:5: a passcommand has no use with 'encryption: none'",
    ),
    "a compression of another program": (
        job(engine="borg", encryption="none", compression="brotli"),
        "7:18: 'brotli': not a compression of borg",
    ),
    "an unknown drive": (job(drives="[bakup]"), "6:14: no drive is named 'bakup' (did you mean 'backup'?)"),
    "a drive twice": (job(drives="[backup, backup]"), "6:22: 'backup' is there twice (first in line 6)"),
    "no drive": (job(drives="[]"), "6:13: expected a list of texts, got an empty one"),
    "a job's name twice": (
        JOB + "  - {name: home, engine: rsync, sources: [/]}\n",
        "5:12: the name 'home' is taken (first in line 2)",
    ),
    "a drive that could be any": ("drives:\n  - {bus: any}\n" + JOB, "2:5: a drive needs a label or a uuid"),
    "a drive's name twice": (
        "drives:\n  - {label: a}\n  - {name: a, label: b}\n" + JOB,
        "3:12: the name 'a' is taken (first in line 2)",
    ),
    "a uuid that is none": (
        "drives: [{uuid: hello}]\n" + JOB,
        "1:17: 'hello': not a file-system UUID as blkid prints it",
    ),
    "a label with spaces around it": (
        "drives: [{label: ' a'}]\n" + JOB,
        "1:18: ' a' cannot be a name or label: at most 100 visible characters",
    ),
    "a battery of 101": (
        JOB + "power: {min_battery: 101}\n",
        "5:22: expected a whole number from 0 to 100, got the number 101",
    ),
    "an address that is none": (
        JOB + "notify: {healthchecks: example.org}\n",
        "5:24: 'example.org': not an http or https address",
    ),
    "figures somewhere": (
        JOB + "notify: {prometheus: x.prom}\n",
        "5:22: 'x.prom' is not an absolute path: begin it with / or ~/",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_it_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    text, expected = ERRORS[name]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, HOME)
    assert caught.value.message.startswith(f"{path}:{expected}")
    assert "\n" not in caught.value.message
    assert caught.value.code == 78


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_file(read: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read("jobs:\n  - engin: rsync\n    sorces: [/]\n    name: A\nzebra: 1\n")
    assert [line.split(":")[1:3] for line in caught.value.message.splitlines()] == [
        ["2", "5"],
        ["3", "5"],
        ["4", "11"],
        ["5", "1"],
    ]


def test_a_thousand_errors_are_counted_not_listed(read: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read(JOB + "".join(f"x{number}: 1\n" for number in range(1000)))
    assert len(caught.value.message.splitlines()) == 21
    assert caught.value.message.endswith("config.yaml: and 980 more")


def test_a_missing_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "config.yaml", HOME)
    assert caught.value.message == f"{tmp_path}/config.yaml: there is no configuration yet"
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f"into {tmp_path}/config.yaml:\n{config_keys.EXAMPLE}")


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "plain").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("fifo", ".", "plain/config.yaml", "loop"):
        with pytest.raises(ConfigError, match="cannot be read: "):
            load(tmp_path / name, HOME)


def test_a_file_of_a_megabyte_is_refused_by_its_size(read: Any) -> None:
    with pytest.raises(ConfigError, match="larger than 131,072 bytes"):
        read(JOB + "#" * 1_000_000)


STRUCTS: dict[str, tuple[Table, type[msgspec.Struct]]] = {
    "file": (config_keys.FILE, Config),
    "drives": (config_keys.DRIVE, DriveConfig),
    "jobs": (config_keys.JOB, JobConfig),
    "keep": (config_keys.KEEP, Keep),
    "verify": (config_keys.VERIFY, Verify),
}


@pytest.mark.parametrize("name", STRUCTS)
def test_every_key_that_may_be_written_has_its_field_and_its_default(name: str) -> None:
    table, struct = STRUCTS[name]
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert set(table.keys) == set(fields)
    for word, key in table.keys.items():
        if not key.required and key.default is not None:
            default = fields[word].default
            assert key.default == (list(default) if isinstance(default, tuple) else default)


def test_every_preset_that_may_be_written_is_known_to_the_matcher() -> None:
    assert set(config_keys.PRESETS) == set(matcher.PRESETS)


def test_the_schema_is_a_schema_and_refuses_what_the_loader_refuses() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for text in (
        job(engine="command", command="[x]"),
        job(encryption="none"),
        job(name="Home"),
        job(every="5"),
        "{}",
    ):
        assert not VALIDATOR.is_valid(yaml.safe_load(text))
