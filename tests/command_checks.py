"""Whether a command of a document can be meant: it is parsed, and the files of the repository that it names are there. Nothing is run."""

import importlib.util
import re
import subprocess
import tomllib
from functools import cache

import typer.main

from specbatch.api import SpecBatchJob, load_spec
from specbatch.api.paths import parse_path, type_at
from specbatch.api.words import fields_by_name
from specbatch.cli.main import app
from specbatch.errors import SpecbatchError
from tests.documents import ROOT, make_targets, text_of
from tests.helm.charts import binary

# The shell's own, and tools that a reader has: not ours to check.
SHELL = """awk aws base64 cat cd chmod cp curl echo export git grep gzip head jq ls mc mkdir mv nvidia-smi printf rm sed set sleep source split
ssh scp tail tar test true unzip wc xz zcat zstd"""

# The options that the documents use of programs which no test has. Look a new one up in the program's reference before it gets in here.
OPTIONS = {
    "buildah build": "--target -t",
    "buildah push": "",
    "ctr images import": "-n",
    "docker build": "--build-arg --platform --target --tag -t",
    "docker buildx build": "--build-arg --platform --push --target --tag -t -o",
    "docker load": "-i",
    "docker login": "--password-stdin -u",
    "docker push": "",
    "docker run": "--entrypoint --env --gpus --network --rm --shm-size --user --volume -e -it -u -v -w",
    "docker save": "-o",
    "docker tag": "",
    "k3s ctr images import": "-n",
    "kind create cluster": "--config --name",
    "kind load image-archive": "--name",
    "minikube image load": "",
    "uv pip install": "-c -r --extra-index-url --python --torch-backend",
    "uv tool install": "--python --with",
    "uv venv": "--python",
}
OWN_FOLDERS = ("benchmarks", "docs", "helm", "job", "k8s", "requirements", "tools")


def problem(command):
    """What is wrong with a command, or None."""
    program, *words = command.words
    name = re.sub(r"[\d.]+$", "", program.rsplit("/", maxsplit=1)[-1])
    missing = [word for word in command.words if _own(word) and not (ROOT / word).exists()]
    if missing:
        return f"{missing[0]} does not exist"
    if name in SHELL.split() or program.startswith("tools/"):
        return None
    checks = {"make": _make, "python": _python, "pip": _packages, "pre-commit": _packages}
    if name in checks:
        return checks[name](words)
    if name in {"kubectl", "helm"}:
        return _by_help(name, words)
    return _specbatch(words, command.whole) if name == "specbatch" else _by_table([name, *words])


def _own(word):
    return re.fullmatch(rf"(?:{'|'.join(OWN_FOLDERS)})/[\w./-]+", word)


def _make(words):
    targets = {word for word in words if not re.match(r"-|\w+=", word)}
    return f"no make target {targets - make_targets()}" if targets - make_targets() else None


def _python(words):
    """`-m MODULE`: there is such a module, and its source knows the options."""
    if words[:1] != ["-m"]:
        return None
    module = words[1]
    if module in {"pip", "venv", "pytest"}:
        return _packages(words[2:]) if module == "pip" else None
    if (found := importlib.util.find_spec(module)) is None:
        return f"no module {module}"
    source = "".join(path.read_text() for path in {ROOT / found.origin, *_beside(found)})
    unknown = [word for word in words[2:] if word.startswith("--") and f'"{word.split("=")[0]}"' not in source]
    return f"{module} has no {unknown[0]}" if unknown else None


def _beside(found):
    return (ROOT / found.origin).parent.glob("*.py")


def _packages(words):
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    for word in words:
        asked = re.match(r"(?:specbatch\S*|\.)\[([\w,]+)\]", word)
        if asked and not set(asked[1].split(",")) <= extras.keys():
            return f"no extra of {asked[1]}"
    return None


def _specbatch(words, whole):
    """By the command line's own parser; --set by the spec that the command names, or field by field where that is the reader's."""
    group = typer.main.get_command(app)
    context = group.make_context("specbatch", ["run"])
    if words[0].startswith("-"):
        return (
            None if words[0] in {flag for one in group.get_params(context) for flag in one.opts} else f"no {words[0]}"
        )
    if (command := group.get_command(context, words[0])) is None:
        return f"no command {words[0]}"
    try:
        given = command.make_context(words[0], list(words[1:]), parent=context).params
    except Exception as error:  # noqa: BLE001 - what typer raises has no public base
        kind = type(error).__name__
        blank = kind in {"MissingParameter", "NoArgsIsHelpError"} or (kind == "BadParameter" and words[-1].isupper())
        fine = kind == "Exit" or (blank and not whole)
        return None if fine else f"{kind}: {error}"
    overrides = given.get("overrides") or []
    jobs = [word for word in words if _own(word) and word.endswith(".yaml")]
    try:
        for job in jobs:
            load_spec(ROOT / job, overrides)
    except SpecbatchError as error:
        return str(error)
    unknown = [one for one in overrides if not _known(one.partition("=")[0])]
    return f"no field {unknown[0]}" if unknown else None


def _known(path):
    names = parse_path(path)
    return type_at(SpecBatchJob, names if names[0] in fields_by_name(SpecBatchJob) else ("spec", *names)) is not None


def _by_table(words):
    known = [form for form in OPTIONS if _in_order(form.split(), words)]
    if not known:
        return f"{words[0]}: say in OPTIONS, or in a function of its own, how its commands are checked"
    options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
    unknown = options - set(" ".join(OPTIONS[form] for form in known).split())
    return f"{known[0]} has no {unknown}" if unknown else _packages(words)


def _in_order(form, words):
    rest = iter(words)
    return words[0] == form[0] and all(word in rest for word in form)


def _by_help(name, words):
    """kubectl and helm say themselves which commands and options they have."""
    words = words[: words.index("--")] if "--" in words else words
    options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
    known = _help(name, tuple(word for word in words if re.fullmatch(r"[a-z][a-z-]+", word))[:3])
    unknown = [option for option in options if not re.search(rf"(^|[\s,]){re.escape(option)}[\s,=]", known)]
    return f"{name} {' '.join(words)}: no {unknown[0]}" if unknown else None


@cache
def _help(name, words):
    program = binary("helm4" if name == "helm" else name)
    shown = ""
    for count in range(1, len(words) + 1):
        done = subprocess.run([program, *words[:count], "--help"], capture_output=True, text=True, check=False)
        shown += done.stdout
    general = ["options"] if name == "kubectl" else ["--help"]
    return shown + subprocess.run([program, *general], capture_output=True, text=True, check=True).stdout
