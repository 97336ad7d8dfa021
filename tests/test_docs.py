"""What the documentation shows is true."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from usbbackup import config_keys
from usbbackup.config import load, schema
from usbbackup.shapes import Table

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(example, id=f"{page.name}:{text[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for text in [page.read_text()]
    for match in re.finditer(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if re.search(r"^jobs:", example := match[1], re.MULTILINE)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_configuration_shown_is_valid_for_the_schema_and_for_the_loader(
    example: str, tmp_path: Path
) -> None:
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(example))
    path = tmp_path / "config.yaml"
    path.write_text(example)
    assert load(path, Path("/home/david")).jobs


@pytest.mark.parametrize(
    ("section", "table"),
    [
        ("## `drives`", config_keys.DRIVE),
        ("## `jobs`", config_keys.JOB),
        ("## `power`", config_keys.FILE.keys["power"].shape),
        ("## `notify`", config_keys.FILE.keys["notify"].shape),
        ("## `jobs`", config_keys.KEEP),
    ],
    ids=["drives", "jobs", "power", "notify", "keep"],
)
def test_every_key_is_explained_in_its_section(section: str, table: Table) -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    explained = page.partition(f"\n{section}\n")[2].partition("\n## ")[0]
    assert [word for word in table.keys if f"`{word}`" not in explained] == []
