"""What may stand in `config.yaml`: every key, its shape, its default, its sentence."""

import re
import warnings
from typing import Any

from usbbackup.shapes import Duration, Flag, Key, ListOf, OneOf, Table, Text, Whole
from usbbackup.text import safe

EXAMPLE = """\
jobs:
  - name: home
    engine: rsync
    sources: [~/]
"""
PRESETS = ("caches", "trash", "downloads", "node_modules", "virtual_machines", "containers")
ENCRYPTED = (
    "repokey-blake2",
    "repokey",
    "keyfile-blake2",
    "keyfile",
    "authenticated-blake2",
    "authenticated",
)
ENGINES = ("rsync", "borg", "command")


def _not_absolute(path: str) -> str | None:
    shown = safe(path)
    if path == "~" or (path.startswith("~") and not path.startswith("~/")):
        return f"'{shown}': write ~/ for your home directory, or an absolute path"
    if not path.startswith(("/", "~/")):
        return f"'{shown}' is not an absolute path: begin it with / or ~/"
    if ".." in path.split("/"):
        return f"'{shown}': '..' is not allowed in a path here"
    return None


def _bad_pattern(pattern: str) -> str | None:
    """Ask the library that will match it; imported here because most commands never read a configuration."""
    from pathspec import GitIgnoreSpec

    if re.search(r"\[:[a-z]+:\]", pattern):  # pathspec reads it as a set of letters
        return f"'{safe(pattern)}': character classes such as [:alpha:] are not supported"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of `re`, about sets like [[a]
            compiled = list(GitIgnoreSpec.from_lines([pattern]).patterns)
    except (ValueError, re.error) as error:
        return f"'{safe(pattern)}' is not a gitignore pattern: {safe(str(error))}"
    if "\n" in pattern or not compiled or compiled[0].include is None:
        return f"'{safe(pattern)}' matches nothing as a gitignore pattern"
    return None


def _bad_name(name: str) -> str | None:
    if not name.isprintable() or name != name.strip() or len(name) > 100:
        shown = safe(name[:100])
        return f"'{shown}' cannot be a name or label: at most 100 visible characters, no space at its ends"
    return None


def _no_program(command: list[str]) -> str | None:
    return "a command begins with the name of a program" if command[:1] == [""] else None


HOME = ": write ~/ for your home directory"
NAME = Text(
    r"[a-z0-9][a-z0-9._-]{0,62}",
    "a job's name has a-z, 0-9, '.', '_' and '-' only, begins with a letter or digit, and is at most 63 long",
)
PATH = Text(check=_not_absolute, nothing=HOME, one="a path", many="paths")
PROGRAM = ListOf(
    Text(empty=True),
    least=1,
    check=_no_program,
    many="commands, each itself a list of texts as in [[sync, -f, /]]",
)
COUNT = Whole(0, 1_000_000)

DRIVE = Table(
    "a drive",
    "drives",
    {
        "name": Key(
            Text(check=_bad_name), "What this drive is called here; default: the label, else the UUID."
        ),
        "label": Key(Text(check=_bad_name), "The file system's label."),
        "uuid": Key(
            Text(r"[0-9A-Fa-f][0-9A-Fa-f-]{3,62}", "not a file-system UUID as blkid prints it"),
            "The file system's UUID.",
        ),
        "trust": Key(
            OneOf(("enrolled", "label")), "What a drive needs before it is written to.", default="enrolled"
        ),
        "bus": Key(OneOf(("usb", "any")), "Which drives are looked at.", default="usb"),
        "mount": Key(
            OneOf(("auto", "wait")), "Ask UDisks2 to mount it, or wait for somebody else.", default="auto"
        ),
        "after": Key(OneOf(("keep", "unmount", "power-off")), "What to do when all is done.", default="keep"),
        "unlock": Key(
            Table(
                "unlock",
                "unlock",
                {"passcommand": Key(PROGRAM, "Prints the passphrase of the LUKS container.", required=True)},
            ),
            "How an enrolled LUKS container is opened.",
        ),
        "jobs_at_once": Key(Whole(1, 64), "How many jobs may run on it at the same time.", default=1),
        "stale_after": Key(Duration(), "Tell when it has had no good backup for so long."),
    },
)

KEEP = Table(
    "keep",
    "keep",
    {
        rule: Key(COUNT, f"How many {rule} snapshots stay; 0 is off.", default=0)
        for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    },
)

VERIFY = Table(
    "verify",
    "verify",
    {
        "every": Key(Duration(), "How often a backup is proven.", required=True),
        "sample": Key(Whole(1, 1_000_000), "How many files are restored and compared.", default=20),
    },
)

# Which engine a key is for; a key that is not here is for all three.
FOR_ENGINE = {
    "sources": ("rsync", "borg"),
    "exclude": ("rsync", "borg"),
    "exclude_presets": ("rsync", "borg"),
    "one_file_system": ("rsync", "borg"),
    "keep": ("rsync", "borg"),
    "verify": ("rsync", "borg"),
    "layout": ("rsync",),
    "encryption": ("borg",),
    "passcommand": ("borg",),
    "compression": ("borg",),
    "command": ("command",),
}
NEEDS = {"rsync": "sources", "borg": "sources", "command": "command"}


def _engine_in_schema(engine: str) -> dict[str, Any]:
    foreign = [key for key, engines in FOR_ENGINE.items() if engine not in engines]
    return {
        "if": {"properties": {"engine": {"const": engine}}, "required": ["engine"]},
        "then": {"required": [NEEDS[engine]], "properties": {key: {"type": "null"} for key in foreign}},
    }


JOB = Table(
    "a job",
    "jobs",
    {
        "name": Key(NAME, "What this job is called.", required=True),
        "engine": Key(OneOf(ENGINES), "What makes the backup.", required=True),
        "drives": Key(ListOf(Text(), least=1, unique=True), "Names of drives; left out: every drive."),
        "sources": Key(ListOf(PATH, least=1), "What is backed up."),
        "exclude": Key(
            ListOf(Text(check=_bad_pattern)), "What is left out, in gitignore patterns.", default=[]
        ),
        "exclude_presets": Key(
            ListOf(OneOf(PRESETS), unique=True), "Ready-made lists of excludes.", default=["caches", "trash"]
        ),
        "one_file_system": Key(Flag(), "Stay on the file system that a source is on.", default=True),
        "layout": Key(OneOf(("snapshots", "mirror")), "Snapshots, or one plain copy.", default="snapshots"),
        "every": Key(Duration(), "How often; left out: once each time the drive is plugged in."),
        "keep": Key(KEEP, "Which snapshots stay; left out: all."),
        "verify": Key(VERIFY, "Whether and how often backups are proven; left out: never."),
        "encryption": Key(OneOf((*ENCRYPTED, "none")), "How a new borg repository is encrypted."),
        "passcommand": Key(PROGRAM, "Prints the borg passphrase."),
        "compression": Key(
            Text(
                r"(obfuscate,[0-9]{1,3},)?(auto,)?"
                r"(none|lz4|zstd(,([1-9]|1[0-9]|2[0-2]))?|zlib(,[0-9])?|lzma(,[0-9])?)",
                "not a compression of borg; for example lz4, zstd,3 or auto,zstd,9",
            ),
            "How borg compresses.",
        ),
        "command": Key(PROGRAM, "The program and its arguments."),
        "before": Key(ListOf(PROGRAM), "Commands that run before the engine.", default=[]),
        "after": Key(ListOf(PROGRAM), "Commands that run after the engine, always.", default=[]),
    },
    extra=(("allOf", [_engine_in_schema(engine) for engine in ENGINES]),),
)

FILE = Table(
    "the configuration",
    "configurations",
    {
        "drives": Key(ListOf(DRIVE, least=1), "Which drives are meant; left out: those labelled backup."),
        "jobs": Key(ListOf(JOB, least=1), "What to back up, and how.", required=True),
        "power": Key(
            Table("power", "power", {"min_battery": Key(Whole(0, 100), "In per cent; left out: off.")}),
            "When not to run.",
        ),
        "notify": Key(
            Table(
                "notify",
                "notify",
                {
                    "desktop": Key(Flag(), "Show notifications.", default=True),
                    "stale_after": Key(Duration(), "Tell when a job has no good backup for so long."),
                    "command": Key(PROGRAM, "Run for each event."),
                    "healthchecks": Key(
                        Text(r"https?://[A-Za-z0-9\[][!-~]*", "not an http or https address"),
                        "Address that is asked for at start, success and failure.",
                    ),
                    "prometheus": Key(PATH, "File that figures are written to."),
                },
            ),
            "Who is told.",
        ),
    },
)


def schema() -> dict[str, Any]:
    """The JSON Schema of the file as users write it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "usbbackup configuration",
    } | FILE.schema()
