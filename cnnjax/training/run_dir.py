"""The folder of a run or an experiment: config.json records what it is for, and where and how it was run.

One that has written nothing else does not own its folder: another may use it.
"""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.config import Config, differences
from cnnjax.distributed import first, on_process_zero
from cnnjax.errors import UserError
from cnnjax.files import read_json, set_aside, write_json
from cnnjax.machine import usable_cores
from cnnjax.ops.conv import best_form
from cnnjax.training.checkpoint import newest_note

Identity = Mapping[str, Any]
"""What a run must agree on to go on, as JSON: its `config`, a digest of its `data`, and fingerprints of the
`objects` that stand in the place of names."""
NAME = "config.json"
PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FLAGS = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64")
_DEFAULTS = Config().to_json()
DECIDING = ("jax", "jaxlib", "flax", "optax")  # packages whose version may change the last bits


def check_run_dir(out: Path, identity: Identity, say: Callable[[str], None]) -> None:
    """Raise UserError unless `out` is free or holds a run that may continue as `identity`.

    It may with the same config, or one of more steps if its schedule does not depend on their number, the
    same data and the same objects. A damaged config.json is set aside; checkpoints hold a copy of its
    content.
    """
    on_process_zero(lambda: _check(out, identity, say))


def _check(out: Path, identity: Identity, say: Callable[[str], None]) -> None:
    if _holds_nothing(out):
        _read(out, "config")  # is ours, or refused
        return
    recorded = _read_or_recover(out, say)
    if recorded is None:
        say(f"{out}: nothing in it says what was trained there; it goes on as this command says")
        return
    if refusal := _refusal(recorded, identity):
        note = newest_note(out / "checkpoints")
        if note is None or _same_run(note, recorded) or _refusal(note, identity):
            raise UserError(f"{out} {refusal}")
        say(f"{out / NAME} is damaged, checkpoints say otherwise: moved to {set_aside(out / NAME)}")
    elif "data" not in recorded:
        say(f"{out}: an older version wrote it and did not record its data; it goes on with the data given")
    elif not _comparable(recorded, identity):
        say(
            f"{out}: its objects were traced by {recorded['objects']['traced by']}, here it is "
            f"{identity['objects']['traced by']}: whether they are the same can't be told"
        )


def _refusal(recorded: Mapping[str, Any], identity: Identity) -> str | None:
    """Why a run of `identity` cannot continue the one that is `recorded`; None if it can."""
    there, config = recorded["config"], identity["config"]
    changes = f"holds another config ({'; '.join(_changes(there, config))})"
    if not _same_run({"config": there}, {"config": config}):
        return f"{changes}: give another folder or remove it"
    if config["steps"] < there["steps"]:
        return f"{changes}: a run does not get shorter; give another folder"
    any_length = (None, "piecewise", "constant", "plateau")
    if config["steps"] > there["steps"] and config["schedule"] not in any_length:
        return (
            f"{changes}: the schedule {config['schedule']} depends on the number of steps, so a run can't be "
            "made longer; give another folder"
        )
    if recorded.get("data", identity["data"]) != identity["data"]:
        return (
            f"holds a run on other data (digest {str(recorded['data'])[:12]} there, "
            f"{identity['data'][:12]} here): "
            "give the same data or another folder"
        )
    ours, theirs = identity.get("objects", {}), recorded.get("objects", {})
    if _comparable(recorded, identity) and (
        other := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    ):
        return (
            f"holds a run with another {other[0]}: it computes something else than the one given, "
            f"{config.get(other[0])}; give the same {other[0]} or another folder"
        )
    return None


def _comparable(recorded: Mapping[str, Any], identity: Identity) -> bool:
    """Whether the fingerprints of objects, if there are any, were made in the same way."""
    makers = [each.get("objects", {}).get("traced by") for each in (recorded, identity)]
    return None in makers or makers[0] == makers[1]


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config; fields that an older version did not have are the defaults."""
    return {**_DEFAULTS, **config}


def _changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return differences(with_defaults(there), here)


def _same_run(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two have the same config, apart from the number of steps, and not different data."""
    configs = [one["config"], other["config"]]
    if any(type(config.get("steps")) is not int for config in configs):
        return False
    same_data = one.get("data", other.get("data")) == other.get("data", one.get("data"))
    return same_data and not differences(*({**with_defaults(config), "steps": 0} for config in configs))


def _read_or_recover(out: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The content of config.json, or its copy in the newest checkpoint or result.json."""
    path = out / NAME
    try:
        if path.exists():
            return _read(out, "config")
        say(f"{path} is missing")
    except UserError:
        say(f"{path} is damaged: moved to {set_aside(path)}")
    for read in (lambda: newest_note(out / "checkpoints"), lambda: read_json(out / "result.json")):
        with contextlib.suppress(OSError, UserError):
            recorded = read()
            if isinstance(recorded, dict) and isinstance(recorded.get("config"), dict):
                return recorded
    return None


def _read(folder: Path, kind: str) -> dict[str, Any] | None:
    path = folder / NAME
    recorded = read_json(path) if path.exists() else None
    if recorded is not None and not (isinstance(recorded, dict) and isinstance(recorded.get(kind), dict)):
        raise UserError(f"{path} holds no {kind}: give another folder")
    return recorded


def _holds_nothing(folder: Path) -> bool:
    """Whether all files in `folder` except config.json, and those left by a dead process, are empty."""
    return not any(
        path.is_file() and path.stat().st_size and path.name != NAME and not path.name.startswith(".")
        for path in folder.rglob("*")
    )


def init_run_dir(out: Path, identity: Identity, parameters: int) -> None:
    """Record what is run in `out`, its number of parameters, and where; what was there stays under "before".

    For process 0, once the run has taken a step.
    """
    here = {**identity, "parameters": parameters, "environment": environment(identity["config"])}
    recorded = _recorded(out)
    before = recorded.pop("before", [])
    if not recorded or not _same_run(recorded, here):
        before = []  # the one before wrote nothing else
    elif _deciding(recorded) != _deciding(here):
        before = [*before, recorded]
    else:
        return
    write_json(out / NAME, {**here, "before": before} if before else here)


def elsewhere(out: Path, identity: Identity) -> list[str]:
    """Differences between this machine and the one that started the run that may change the last bits."""
    return on_process_zero(lambda: _elsewhere(out, identity["config"]))


def _elsewhere(out: Path, config: dict[str, Any]) -> list[str]:
    then, now = (
        _deciding(each)["environment"] for each in (_recorded(out), {"environment": environment(config)})
    )
    return differences({**now, **then}, now)


def _recorded(out: Path) -> dict[str, Any]:
    """What config.json says of a run, or nothing."""
    try:
        return _read(out, "config") or {}
    except UserError:
        return {}


def _deciding(recorded: dict[str, Any]) -> dict[str, Any]:
    """What decides a run's numbers, and in `environment` their last bits."""
    environment = _mapping(recorded, "environment")
    versions, flags = _mapping(environment, "versions"), _mapping(environment, "flags")
    return {
        "config": recorded.get("config"),
        "data": recorded.get("data"),
        "objects": recorded.get("objects"),
        "environment": {
            **{name: environment[name] for name in ("device", "convolution", "x64") if name in environment},
            **{name: versions[name] for name in DECIDING if name in versions},
            **({name: flags.get(name) for name in FLAGS} if environment else {}),
        },
    }


def _mapping(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def experiment_dir(
    folder: Path,
    settings: Mapping[str, Any],
    growing: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Iterator[None]:
    """Make `folder` with an experiment's settings in its config.json, or check that they are the same there.

    Those named in `growing` may differ: they decide which runs are made, not how. If the block fails before
    anything else was written, config.json and the folder are removed.

    Raises:
        UserError: the folder holds other settings.
    """
    missing = on_process_zero(lambda: _init_experiment_dir(folder, settings, growing, say))
    try:
        yield
    except BaseException:
        if first() and _holds_nothing(folder):
            with contextlib.suppress(OSError):  # up to the first folder that is not empty
                (folder / NAME).unlink()
                for each in missing:
                    each.rmdir()
        raise


def _init_experiment_dir(
    folder: Path, settings: Mapping[str, Any], growing: Sequence[str], say: Callable[[str], None]
) -> list[Path]:
    """Make the folder or check it; returns the folders that had to be made, innermost first."""
    recorded = (_read(folder, "experiment") or {}).get("experiment")
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    if not _holds_nothing(folder):
        if recorded is None:
            say(f"{folder} has no config.json: what is in it is taken for this experiment's")
        else:
            fixed = [
                {name: value for name, value in each.items() if name not in growing}
                for each in (recorded, settings)
            ]
            if changes := differences(*fixed):
                raise UserError(
                    f"{folder} holds another experiment ({'; '.join(changes)}): "
                    "give another folder or remove it"
                )
    if recorded != settings:
        write_json(folder / NAME, {"experiment": dict(settings), "environment": environment(settings)})
    return missing


def environment(settings: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Versions, device, command, git commit and what decides programs, for the record.

    `settings` are those of `Config.to_json`, or of an experiment, whose networks compute in float32.
    """
    form = (settings.get("model_options") or {}).get("convolution", "auto")
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    kind = f"{devices[0].device_kind} ({devices[0].platform})"
    return {
        "versions": {"python": sys.version.split()[0], **versions},
        "convolution": best_form(jnp.dtype(settings.get("dtype", "float32"))) if form == "auto" else form,
        "device": f"{len(devices)} x {kind}, {len(usable_cores())} cores",
        "x64": bool(jax.config.jax_enable_x64),  # pyright: ignore
        "command": " ".join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "git_commit": _git_commit(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this file lies in, with "+" when files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
