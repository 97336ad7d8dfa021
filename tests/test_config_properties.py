"""What may be configured can be written down and read back; anything else is refused, never worse."""

import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usbbackup import config_keys
from usbbackup.backup.matcher import Matcher
from usbbackup.config import Config, DriveConfig, JobConfig, Keep, Notify, Power, Unlock, Verify, load, schema
from usbbackup.errors import ConfigError

VALIDATOR = jsonschema.Draft202012Validator(schema())


def read(data: bytes) -> Config:
    """Load a text as `config.yaml`."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.yaml")
        path.write_bytes(data)
        return load(path, Path("/home/david"))


def seconds() -> st.SearchStrategy[float]:
    return st.integers(1, 36500 * 86400).map(float)


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = (
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=20)
    .filter(str.isprintable)
    .filter(lambda name: name == name.strip())
)
commands = (
    st.lists(words, min_size=1, max_size=4)
    .filter(lambda words: words[0] != "" and not words[0].startswith("~/"))
    .map(tuple)
)
paths = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=9).filter(
        lambda part: part not in (".", "..")
    ),
    max_size=4,
).map(lambda parts: "/" + "/".join(parts))
job_names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
counts = st.integers(0, 1_000_000)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


drives = st.builds(
    DriveConfig,
    name=names,
    label=names,
    uuid=maybe(st.from_regex(r"[0-9A-F]{4}-[0-9A-F]{4}", fullmatch=True)),
    trust=st.sampled_from(["enrolled", "label"]),
    bus=st.sampled_from(["usb", "any"]),
    mount=st.sampled_from(["auto", "wait"]),
    after=st.sampled_from(["keep", "unmount", "power-off"]),
    unlock=maybe(st.builds(Unlock, passcommand=commands)),
    jobs_at_once=st.integers(1, 64),
    stale_after=maybe(seconds()),
)
copies = {
    "name": job_names,
    "sources": st.lists(paths, min_size=1, max_size=3, unique=True).map(tuple),
    "exclude": st.lists(st.sampled_from(["*.iso", "!keep", "/a/**/b", "tmp/", "\\#x", "[a-z]?"])).map(tuple),
    "exclude_presets": st.lists(st.sampled_from(config_keys.PRESETS), unique=True).map(tuple),
    "every": maybe(seconds()),
    "before": st.lists(commands, max_size=2).map(tuple),
    "after": st.lists(commands, max_size=2).map(tuple),
    "verify": maybe(st.builds(Verify, every=seconds(), sample=st.integers(1, 1000))),
    "keep": maybe(
        st.builds(
            Keep, last=counts, hourly=counts, daily=counts, weekly=counts, monthly=counts, yearly=counts
        )
    ),
}
jobs = st.one_of(
    st.builds(JobConfig, engine=st.just("rsync"), **copies),
    st.builds(JobConfig, engine=st.just("rsync"), layout=st.just("mirror"), **(copies | {"keep": st.none()})),
    st.builds(
        JobConfig,
        engine=st.just("borg"),
        encryption=st.sampled_from(config_keys.ENCRYPTED),
        passcommand=commands,
        compression=maybe(
            st.sampled_from(["none", "lz4", "zstd,22", "auto,lzma,6", "obfuscate,110,auto,zstd"])
        ),
        **copies,
    ),
    st.builds(JobConfig, engine=st.just("borg"), encryption=st.just("none"), **copies),
    st.builds(JobConfig, engine=st.just("command"), command=commands, name=job_names, every=maybe(seconds())),
)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    listed = draw(st.lists(drives, min_size=1, max_size=3, unique_by=lambda drive: drive.name))
    some = st.lists(st.sampled_from([drive.name for drive in listed]), min_size=1, unique=True).map(tuple)
    chosen = draw(st.lists(jobs, min_size=1, max_size=3, unique_by=lambda one: one.name))
    return Config(
        drives=tuple(listed),
        jobs=tuple(msgspec.structs.replace(one, drives=draw(maybe(some))) for one in chosen),
        power=Power(min_battery=draw(maybe(st.integers(0, 100)))),
        notify=Notify(
            desktop=draw(st.booleans()),
            stale_after=draw(maybe(seconds())),
            command=draw(maybe(commands)),
            healthchecks=draw(maybe(st.just("https://hc.example.org/ping/1?x=%20"))),
            prometheus=draw(maybe(paths)),
        ),
    )


def as_written(value: Any) -> Any:
    """A value as it stands in the file: nothing for None, durations with their unit."""
    match value:
        case dict():
            return {key: as_written(inner) for key, inner in value.items() if inner is not None}
        case list() | tuple():
            return [as_written(inner) for inner in value]
        case float():
            return f"{value:.0f}s"
        case _:
            return value


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@given(st.text(st.sampled_from("ab*?[]!^-/\\# ."), min_size=1, max_size=8))
def test_every_pattern_that_is_accepted_can_be_matched(pattern: str) -> None:
    document = {"jobs": [{"name": "a", "engine": "rsync", "sources": ["/"], "exclude": [pattern]}]}
    try:
        read(yaml.safe_dump(document).encode())
    except ConfigError as error:
        assert "gitignore" in error.message
    else:
        Matcher([pattern]).excludes(b"", b"a", False)


def written(config: Config) -> dict[str, Any]:
    document: dict[str, Any] = as_written(msgspec.to_builtins(config))
    for one in document["jobs"]:
        for key, engines in config_keys.FOR_ENGINE.items():
            if one["engine"] not in engines:
                one.pop(key, None)
    return document


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(config=configs())
def test_a_configuration_that_is_written_down_reads_back_the_same(config: Config) -> None:
    document = written(config)
    VALIDATOR.validate(document)
    text = yaml.safe_dump(document, width=10_000).encode()
    assert read(text) == msgspec.convert(msgspec.to_builtins(config), Config)


LINES = [
    "drives:",
    "jobs:",
    "  - name: home",
    "    engine: rsync",
    "    engine: borg",
    "    engine: command",
    "    sources: [~/]",
    "    sources: [~, 1, on, /a]",
    "    encryption: none",
    "    command: [x]",
    "    keep: {last: 1}",
    "    keep: []",
    "    drives: [a, a]",
    "    exclude: ['*', '!', '/']",
    "  - label: a",
    "  -",
    "power: {min_battery: 5}",
    "notify: {command: [~/x]}",
]


@given(
    st.one_of(st.binary(), st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=5))).map("\n".join))
)
def test_any_file_is_a_configuration_or_a_config_error(text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        config = read(data)
    except ConfigError as error:
        assert error.message.count("config.yaml:") == len(error.message.splitlines())
    else:
        assert config.jobs
        VALIDATOR.validate(yaml.safe_load(data))
