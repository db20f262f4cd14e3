"""The documents of the repository, and the commands in them, for the tests that read them.

What becomes of a fenced block is said by its language: `bash` is run in a copy of a fresh checkout, `sh` against an API server, `shell` is
parsed only (it needs a hub, docker, a GPU or a cloud), `console` is a command with its output, `yaml` is parsed; `text` and none are output.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")
TWIN = ".zh-CN.md"
"""A document in Chinese has the same commands as the one in English, which are tested."""
COMMAND_BLOCKS = ("bash", "sh", "shell")
OTHER_BLOCKS = ("console", "yaml", "json", "csv", "python", "dockerfile", "mermaid", "text", "")

_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<![`\w])`([^`\n]+)`(?!`)")
_HEREDOC = re.compile(r"<<-? *(['\"]?)(\w+)\1([^\n]*)\n.*?^\2$", re.DOTALL | re.MULTILINE)
_PROGRAM = r"(?:[A-Z_]+=\S+ )*(?:specbatch|make|python|pip|uv|docker|buildah|kubectl|helm|kind|ctr)"
_INDENTED = re.compile(rf"^ {{4,}}(?:\$ )?({_PROGRAM} (?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
_KEYWORDS = {"for", "do", "done", "if", "then", "else", "fi", "while", "until", "!", "{", "}"}


class Command(NamedTuple):
    """One command of a document."""

    words: tuple[str, ...]
    whole: bool
    """It stands in a block, to be copied: nothing may be missing. In a sentence an argument may."""

    @property
    def text(self):
        return shlex.join(self.words)


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def fenced(name):
    """(language, text) of every fenced block, in order."""
    return _FENCED.findall(text_of(name))


def blocks(name, language):
    """The fenced code blocks of a language, in order."""
    return [block for fence, block in fenced(name) if fence == language]


def documents():
    """Every Markdown file that people are meant to read, by its path from the root."""
    skipped = {".venv", "tests", "node_modules", "results", "models"}
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(str(path) for path in found if not any(part in skipped or part[0] == "." for part in path.parts[:-1]))


def make_targets():
    return set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))


def commands_of(name):
    """Every command of a document, or of another file's comments, whether in a block or in a sentence."""
    text = text_of(name)
    if not name.endswith(".md"):
        text = re.sub(r"^#  ", "    ", text, flags=re.MULTILINE)
    found = []
    for language, block in _FENCED.findall(text):
        if language in COMMAND_BLOCKS:
            found += parsed(block, whole=True)
        elif language == "console":
            for line in re.findall(r"^\$ (.*)", block, re.MULTILINE):
                found += parsed(line, whole=True)
    prose = _FENCED.sub("", text)
    for lines in _INDENTED.findall(prose):
        found += parsed(re.split(r"(?<=\S) {3,}", lines)[0], whole=True)  # what a command does may stand beside it
    for code in _INLINE.findall(prose):
        if re.match(_PROGRAM + r" \S", code):
            found += parsed(code, whole=False)
    return found


def parsed(script, *, whole):
    """The simple commands of a script, without assignments, redirections, comments and the text of here-documents."""
    found, words, target = [], [], False
    for line in [*_HEREDOC.sub(r"<<\2\3", script).replace("\\\n", " ").splitlines(), ""]:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if set(word) <= set("<>&") and word.strip("&"):
                target = True
            elif set(word) <= set(";|&()"):
                found, words = found + [words] * bool(words), []
            elif target:
                target = False
            elif words or not (word in _KEYWORDS or re.match(r"[A-Za-z_]\w*=", word)):
                words = [*words, word]
    return [Command(tuple(words), whole) for words in found]
