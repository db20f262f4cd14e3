"""Completion in bash, zsh and fish: `specbatch completion SHELL` prints a script that asks this program for candidates.

The script sets COMPLETE_VARIABLE to the command line up to the cursor and runs `specbatch`, which prints one candidate a line, with its
help after a tab. Where it prints none, the shell completes file names. Typer's own scripts know neither values after `=`, nor when
a space would be in the way.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import typer

from specbatch.cli.output import show_document

COMPLETE_VARIABLE = "_SPECBATCH_COMPLETE"

_BASH = """\
# bash 4.4 or newer: source <(specbatch completion bash)
_specbatch() {
    local line="${COMP_LINE:0:COMP_POINT}" value help
    local word="${line##*[[:space:]]}"
    local before="${word%"${word##*[=:]}"}"  # bash replaces what follows the last = or :
    COMPREPLY=()
    while IFS=$'\\t' read -r value help; do
        COMPREPLY+=("${value#"$before"}")
    done < <(_SPECBATCH_COMPLETE="$line" "$1" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]]; then compopt -o nospace; fi
}
complete -o bashdefault -o default -F _specbatch specbatch
"""

_ZSH = """\
#compdef specbatch
# zsh, after compinit: source <(specbatch completion zsh); or as a file named _specbatch in a folder of fpath
_specbatch() {
    local -a whole open
    local value help entry
    while IFS=$'\\t' read -r value help; do
        entry="${value//:/\\\\:}${help:+:$help}"
        if [[ $value == *[=.] ]]; then open+=("$entry"); else whole+=("$entry"); fi
    done < <(_SPECBATCH_COMPLETE="${(j: :)words[1,CURRENT-1]} $PREFIX" "${(Q)words[1]}" 2>/dev/null)
    if (( $#whole + $#open )); then
        _describe -V specbatch whole -- open -S ''
    else
        compset -P '*='
        _files
    fi
}
if [[ $funcstack[1] == _specbatch ]]; then _specbatch "$@"; else compdef _specbatch specbatch; fi
"""

_FISH = """\
# fish: specbatch completion fish | source; or as ~/.config/fish/completions/specbatch.fish
function __specbatch_complete
    set -l words (commandline -opc)
    set -l found (env _SPECBATCH_COMPLETE=(commandline -cp | string join ' ') $words[1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        set -l token (commandline -ct)
        set -l before (string match -r '^.*=' -- $token; or echo '')
        for path in (__fish_complete_path (string replace -r '^.*=' '' -- $token))
            echo $before$path
        end
    end
end
complete --command specbatch --no-files --keep-order --arguments '(__specbatch_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a script that completes commands, options and fields.

    In the shell's startup file: source <(specbatch completion bash), the same for zsh after compinit, and for fish
    specbatch completion fish | source

    Example: specbatch completion zsh > ~/.zfunc/_specbatch
    """
    show_document(_SCRIPTS[shell], nl=False)


def candidates(app: typer.Typer, line: str) -> Iterator[tuple[str, str]]:
    """(what may stand in place of the last word of a command line, its help); nothing where a file name may.

    Args:
        app: the commands.
        line: up to the cursor; the last word may be empty, or in quotes that are still open.
    """
    root: Any = typer.main.get_command(app)
    words = split_line(line)[1:]
    done, incomplete = words[:-1], words[-1] if words else ""
    command = root.commands.get(done[0]) if done else root
    if command is None:
        return
    context = typer.Context(command, parent=typer.Context(root))
    if command is root and not incomplete.startswith("-"):
        found = [(name, one.short_help or "") for name, one in root.commands.items()]
        yield from ((name, text) for name, text in found if name.startswith(incomplete))
        return
    parameters = command.get_params(context)
    option = _option_named(parameters, done[-1] if done else "")
    written = ""
    if option is None and incomplete.startswith("--") and "=" in incomplete:
        name, _, incomplete = incomplete.partition("=")
        option, written = _option_named(parameters, name), f"{name}="
    elif option is None and incomplete.startswith("-"):
        yield from _options(parameters, incomplete)
        return
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    for one in [option] if option is not None else arguments[:1]:
        for item in one.shell_complete(context, incomplete):
            yield f"{written}{item.value}", item.help or ""


def split_line(line: str) -> list[str]:
    """The words of a command line up to the cursor, without their quotes; the last is the one at the cursor."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:  # a quote is open
        return [*words, lexer.token]
    return [*words, ""] if not line or (line[-1].isspace() and not line.endswith("\\ ")) else words


def _option_named(parameters: Sequence[Any], name: str) -> Any:
    """The option that takes a value, of that name."""
    named = (one for one in parameters if one.param_type_name == "option" and name in one.opts)
    return next((one for one in named if not one.is_flag), None)


def _options(parameters: Sequence[Any], incomplete: str) -> Iterator[tuple[str, str]]:
    for one in parameters:
        for name in [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else ():
            if name.startswith(incomplete) and (name.startswith("--") or incomplete == "-"):
                yield name, getattr(one, "help", None) or ""
