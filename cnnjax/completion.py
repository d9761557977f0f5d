"""`cnnjax --install-completion`: the Tab key completes verbs, flags and names in bash, zsh and fish.

tyro writes the script, for it knows the flags; added are the names of networks, recipes and data sets, and
files wherever it knows no word.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from cnnjax.errors import UserError
from cnnjax.files import replacing, set_aside

SHELLS = ("bash", "zsh", "fish")
INSTALL, SHOW = "--install-completion", "--show-completion"
MARK = f"# Written by `cnnjax {INSTALL}`, which replaces this file."

# Python without a double quote, backslash or dollar sign, which fish would take for its own.
_NAMES = """
for flag in {flags!r}:
    COMPLETION_SPEC['options'].append(dict(flags=[flag], description='', type='flag'))
for verb, spec in COMPLETION_SPEC['subcommands'].items():
    for option in spec['options']:
        names = {by_flag!r}.get(option['flags'][0])
        if names:
            option.update(type='choice', choices=names)
    for name in {by_verb!r}.get(verb, ()):
        spec['subcommands'][name] = dict(spec, description=name, subcommands=dict())

tyro_completions = get_completions


def get_completions(words, current_word_index, spec):
    return tyro_completions(words, current_word_index, spec) or ['__TYRO_COMPLETE_FILES__']


"""
_FILES = {
    "bash": "complete -o bashdefault -o default -F _tyro_cnnjax cnnjax\n",
    "zsh": "",
    "fish": "complete --command cnnjax --force-files --condition 'test (count (commandline -opc)) -gt 1'\n",
}
"""For words that the Python above knows nothing of, or in fish is not told."""


def complete(kind: Any, words: Sequence[str]) -> None:
    """Install or print the completion of the command whose verbs are of this `kind`.

    Args:
        kind: the type of its command line, for tyro.
        words: INSTALL or SHOW, and a shell; without one that of $SHELL.

    Raises:
        UserError: there is no such shell, or there are more words.
    """
    action, *others = words
    shell = _shell(action, others)
    text = script(kind, shell)
    if action == SHOW:
        print(text, end="")
        return
    path = _path(shell)
    if os.path.lexists(path) and not _is_ours(path):
        print(f"{path} was not of cnnjax: it is now {set_aside(path, into=path.parent / 'aside')}")
    with replacing(path) as file:
        file.write(text)
    print(f"{path}\n{_advice(shell, path)}")


def script(kind: Any, shell: str) -> str:
    """The shell's script."""
    from cnnjax.data import list_datasets
    from cnnjax.models.registry import list_models
    from cnnjax.papers import RECIPES

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(kind, prog="cnnjax", args=["--tyro-print-completion", shell])
    networks, data = list_models(), list_datasets()
    names = _NAMES.format(
        flags=["--version", INSTALL, SHOW],
        by_flag={"--model": networks, "--data": data, "--recipe": list(RECIPES)},
        by_verb={**dict.fromkeys(("models", "summary", "predict", "diagnose"), networks), "data": data},
    )
    before, main, after = said.getvalue().partition("def main() -> None:")
    return f"{before}{names}{main}{after}{_FILES[shell]}{MARK}\n"


def _shell(action: str, words: Sequence[str]) -> str:
    if len(words) > 1:
        raise UserError(f"{action}: takes one shell, such as `cnnjax {action} bash`")
    shell = words[0] if words else Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        what = f"{action} {shell}:" if words else f"{action}: $SHELL is {shell or 'not set'};"
        raise UserError(f"{what} give one of {', '.join(SHELLS)}")
    return shell


def _path(shell: str) -> Path:
    """Where the shell, or its package of completions, looks for those of the user."""
    home = Path.home()
    share = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    if shell == "bash":
        bash = Path(os.environ.get("BASH_COMPLETION_USER_DIR") or share / "bash-completion")
        return bash / "completions/cnnjax"
    if shell == "zsh":
        return share / "zsh/site-functions/_cnnjax"
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/completions/cnnjax.fish"


def _advice(shell: str, path: Path) -> str:
    if shell == "bash":
        return (
            "New shells complete if the package bash-completion is there; if not, add to ~/.bashrc:\n"
            f"source {path}"
        )
    if shell == "zsh":
        return (
            "Add to ~/.zshrc, unless its fpath has the folder and it calls compinit:\n"
            f"fpath=({path.parent} $fpath); autoload -Uz compinit; compinit"
        )
    return "New shells complete."


def _is_ours(path: Path) -> bool:
    try:
        return MARK in path.read_text()
    except (OSError, UnicodeDecodeError):
        return False
