"""Documents stay true: links lead somewhere, targets exist, lists are whole, generated parts are fresh."""

import re
import subprocess
import tomllib

import pytest

from tests.documents import ROOT, documents, make_targets, text_of
from tools import modules

DOCUMENTS = documents()
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MAKE = re.compile(r"(?:`|^ {4,})(?:[A-Z_]+=\S+ )*make (?:[A-Z_]+=\S+ )*([a-z][a-z0-9-]*)", re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file(name):
    folder = (ROOT / name).parent
    local = [link for link in _LINK.findall(text_of(name)) if "://" not in link]
    broken = [link for link in local if not (folder / link.split("#")[0]).exists()]
    assert not broken


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_named_exists(name):
    assert set(_MAKE.findall(text_of(name))) <= make_targets()


def test_every_target_is_explained_by_make_help():
    shown = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True)
    assert set(re.findall(r"^make (\S+)", shown.stdout, re.MULTILINE)) == make_targets()


def test_the_list_of_modules_is_whole():
    sections = re.split(r"^## ", text_of(modules.DOCUMENT), flags=re.MULTILINE)[1:]
    listed = {
        f"{section.splitlines()[0]}/{module}"
        for section in sections
        for module in re.findall(r"^\| `(\S+\.py)` \| \S", section, re.MULTILINE)
    }
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "specbatch").rglob("*.py")}
    assert listed == {path for path in files if path.count("/") == 1 or not path.endswith("__init__.py")}


def test_decisions_are_numbered_without_gaps_and_all_in_the_list():
    files = sorted(path.name for path in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    assert sorted(_LINK.findall(text_of("docs/decisions/README.md"))) == files
    for name in files:
        assert text_of(f"docs/decisions/{name}").startswith(f"# {name[:4]}: ")


def test_the_dependencies_record_names_every_dependency():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.match(r"[\w-]+", one)[0].lower() for one in wanted} - {"types-pyyaml", "pytest-xdist"}
    record = text_of("docs/decisions/0002-dependencies.md").lower()
    assert not [name for name in names if not re.search(rf"\b{name}\b", record)]


def test_the_changelog_has_an_unreleased_part_with_entries():
    after = text_of("CHANGELOG.md").split("\n## Unreleased\n")[1]
    assert re.search(r"^- \S", after.split("\n## ")[0], re.MULTILINE)
