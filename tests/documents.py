"""The documents of the repository, for the tests that read them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, language):
    """The fenced code blocks of a language, in order."""
    return [block for fence, block in _FENCED.findall(text_of(name)) if fence == language]


def documents():
    """Every Markdown file that people are meant to read, by its path from the root."""
    folders = ("", "docs", "docs/decisions", "docs/reference", "job/prompts", "benchmarks", "specbatch/embedded")
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).glob("*.md"))


def make_targets():
    return set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
