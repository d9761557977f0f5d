"""`cnnjax --install-completion`, in the shells themselves."""

import shutil
import subprocess
import sys

import pytest

from cnnjax.__main__ import Verb, main
from cnnjax.completion import MARK, SHELLS, script
from tests.pseudo_terminal import PseudoTerminal

WHERE = {
    "bash": "share/bash-completion/completions/cnnjax",
    "zsh": "share/zsh/site-functions/_cnnjax",
    "fish": "config/fish/completions/cnnjax.fish",
}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request):
    return request.param


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
    return tmp_path


def call(monkeypatch, capsys, *words):
    """Exit code, and what was said on stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["cnnjax", *words])
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """The script, in a file."""
    path = tmp_path_factory.mktemp("bash") / "cnnjax"
    path.write_text(script(Verb, "bash"))
    return path


def candidates(bash, folder, *words):
    """What the last word may become."""
    line = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_cnnjax; echo "${COMPREPLY[@]}"'
    command = ["bash", "--norc", "-c", line, bash, "cnnjax", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tr"], ["train"]),
        (["--inst"], ["--install-completion"]),
        (["train", "--rec"], ["--recipe"]),
        (["train", "--recipe", "wrn_cifar"], ["wrn_cifar", "wrn_cifar_modern"]),
        (["train", "--model", "resnet11"], ["resnet110", "resnet110_stochastic_depth"]),
        (["train", "--data", "cifar"], ["cifar10", "cifar100"]),
        (["train", "--shard", "fs"], ["fsdp"]),
        (["summary", "vgg1"], ["vgg11", "vgg13", "vgg16", "vgg19"]),
        (["diagnose", "vgg11", "--optimizer-"], ["--optimizer-options"]),
        (["data", "fashion_mi"], ["fashion_mini"]),
        (["train", "--out", "some"], ["somewhere"]),
    ],
)
def test_bash_knows_verbs_flags_names_and_files(bash, tmp_path, words, found):
    (tmp_path / "somewhere").mkdir()
    given = candidates(bash, tmp_path, *words)
    assert set(found) <= set(given)
    assert all(one.startswith(words[-1]) for one in given)


def test_the_tab_key_in_bash(bash, tmp_path):
    (tmp_path / "finished").mkdir()
    terminal = PseudoTerminal(["bash", "--norc", "--noprofile", "-i"], cwd=tmp_path, PS1="$ ")
    terminal.press(f"source {bash}\n")
    terminal.press("cnnjax tr\t")
    terminal.wait_for("cnnjax train ")
    terminal.press("\x15cnnjax evaluate fin\t")
    terminal.wait_for("cnnjax evaluate finished/")
    terminal.press("\x15exit\n")
    assert terminal.end() == 0


def test_it_is_installed_and_replaces_only_its_own(home, shell, monkeypatch, capsys):
    path = home / WHERE[shell]
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    code, said, _ = call(monkeypatch, capsys, "--install-completion")
    assert code == 0
    assert said.startswith(f"{path}\n")
    assert path.read_text().endswith(f"{MARK}\n")
    assert str(path.parent) in said.partition("\n")[2] or shell == "fish"
    code, said, _ = call(monkeypatch, capsys, "--install-completion", shell)
    assert code == 0
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    path.write_text("# someone's own")
    code, said, _ = call(monkeypatch, capsys, "--install-completion")
    aside = path.parent / "aside" / path.name
    assert said.startswith(f"{path} was not of cnnjax: it is now {aside}\n")
    assert aside.read_text() == "# someone's own"
    assert call(monkeypatch, capsys, "--show-completion", shell)[1] == path.read_text()


def test_the_shell_takes_it(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    path = tmp_path / "cnnjax"
    path.write_text(script(Verb, shell))
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (["--install-completion", "tcsh"], "", "--install-completion tcsh: give one of bash, zsh, fish"),
        (["--show-completion"], "/bin/ksh", "--show-completion: $SHELL is ksh; give one of bash, zsh, fish"),
        (["--show-completion"], "", "--show-completion: $SHELL is not set; give one of bash, zsh, fish"),
        (["--install-completion", "zsh", "bash"], "", "--install-completion: takes one shell, such as"),
    ],
)
def test_a_shell_that_is_unknown_is_one_line(home, words, environment, message, monkeypatch, capsys):
    monkeypatch.setenv("SHELL", environment)
    code, _, said = call(monkeypatch, capsys, *words)
    assert code == 2
    assert said.startswith(f"cnnjax: {message}")
    assert len(said.splitlines()) == 1
    assert not list(home.iterdir())
