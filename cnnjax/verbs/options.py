"""What several verbs have: options that are NAME=VALUE, and results that --json prints as data."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnjax.config import Config
from cnnjax.errors import UserError

if TYPE_CHECKING:
    from cnnjax.verbs.plan import Plan
    from cnnjax.verbs.train import Train


def with_options(verb: "Train | Plan") -> Config:
    """The config of a command, with what has flags of its own."""
    own = verb.config
    return dataclasses.replace(
        own,
        model_options={**own.model_options, **parse_options("--options", verb.options)},
        optimizer_options={
            **own.optimizer_options,
            **parse_options("--optimizer-options", verb.optimizer_options),
        },
        schedule_options={
            **own.schedule_options,
            **parse_options("--schedule-options", verb.schedule_options),
        },
        groups={**own.groups, **dict(map(_group, verb.groups))},
    )


def parse_options(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """Names and values of NAME=VALUE, where a value is JSON or else a plain word."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"{flag} {text}: must be NAME=VALUE, such as width=8")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def show_result(found: Any, as_json: bool) -> None:
    """Print what was found, or one JSON object of it."""
    from cnnjax.terminal import show

    if as_json:
        print(json.dumps(found.to_json()))
    else:
        show(found)


def _group(text: str) -> tuple[str, dict[str, Any]]:
    """Pattern and values of PATTERN:rate=R,decay=D."""
    pattern, _, values = text.rpartition(":")
    if not pattern:
        raise UserError(f"--groups {text}: must be PATTERN:rate=R,decay=D, such as '*/bias:rate=2,decay=0'")
    return pattern, parse_options("--groups", values.split(","))
