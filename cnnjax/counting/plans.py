"""Several plans side by side, and which of them to take."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from cnnjax.config import Config, Dtype, Shard
from cnnjax.counting.plan import Plan, plan
from cnnjax.counting.plan_table import mesh_text, seconds_text, size_text
from cnnjax.errors import UserError
from cnnjax.terminal import Page, Printable, table

CHOICES: Mapping[str, Sequence[str]] = {"shard": get_args(Shard), "dtype": get_args(Dtype)}
OURS = ("topology", "mesh", "shard", "dtype", "batch_size", "bn_group_size")
"""What can be compared."""
DEFAULT = ("shard=replicated", "shard=fsdp", "dtype=bfloat16", "dtype=float32")


@dataclasses.dataclass(frozen=True)
class Comparison(Printable):
    """Plans of one run in several settings, in the order of the settings.

    Attributes:
        settings: what each has in the place of the run's own.
        plans: one for each.
    """

    settings: Sequence[Mapping[str, Any]]
    plans: Sequence[Plan]

    @property
    def recommended(self) -> int | None:
        """Position of the one to take, of those that fit; None if none does.

        The one that could train the most images a second, and of equals the one that needs the least memory.
        """

        def merit(position: int) -> tuple[float, float]:
            one = self.plans[position]
            rate = one.config.batch_size / one.bound_seconds if one.bound_seconds else 0.0
            return rate, -(one.needed_bytes or 0)

        fitting = [position for position, one in enumerate(self.plans) if one.fits]
        return max(fitting, key=merit, default=None)

    def to_json(self) -> dict[str, Any]:
        """Settings, plans and the position of the recommended one, as JSON values."""
        return {
            "settings": [dict(one) for one in self.settings],
            "plans": [one.to_json() for one in self.plans],
            "recommended": self.recommended,
        }

    def __rich__(self) -> Page:
        """The table."""
        head = (
            "topology", "mesh", "shard", "dtype", "batch", "memory", "fits", "exchanges", "sends", "bound",
            "by", "images/s",
        )  # fmt: skip
        first = self.plans[0]
        rows = table(list(map(_row, self.plans)), head, "llllr")
        if self.recommended is None:
            advice = "none of them fits: try a smaller batch, or shard=fsdp on more devices"
            return Page(first.what, "", rows, "", advice)
        chosen = " ".join(f"{name}={value}" for name, value in self.settings[self.recommended].items())
        return Page(first.what, "", rows, "", f"recommended, by these bounds: {chosen}")


def _row(one: Plan) -> tuple[str, ...]:
    rate = f"{one.config.batch_size / one.bound_seconds:,.0f}" if one.bound_seconds else "?"
    return (
        one.topology,
        mesh_text(one.mesh),
        one.shard,
        one.config.dtype,
        f"{one.config.batch_size:,}",
        size_text(one.needed_bytes),
        "yes" if one.fits else "no",
        f"{sum(each.count for each in one.exchanges.values()):,}",
        size_text(sum(each.sent for each in one.exchanges.values())),
        seconds_text(one.bound_seconds),
        one.bound_by or "?",
        rate,
    )


def compare_plans(
    config: Config, settings: Sequence[str] = DEFAULT, *, topology: str, **arguments: Any
) -> Comparison:
    """Plan a run in all combinations of `settings`, such as ("shard=fsdp", "shard=replicated").

    Args:
        config: the run.
        settings: NAME=VALUE, where a name may come several times: topology, mesh, shard, dtype, batch_size
            or bn_group_size.
        topology: where it is planned for, unless `settings` says it.
        arguments: the others of `plan`.

    Raises:
        UserError: a setting is unknown; or as `plan`.
    """
    values: dict[str, list[Any]] = {}
    for setting in settings or DEFAULT:
        name, equals, value = setting.partition("=")
        if name not in OURS or not equals:
            raise UserError(
                f"--compare {setting}: must be NAME=VALUE, where NAME is one of {', '.join(OURS)}"
            )
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"--compare {setting}: must be one of {', '.join(CHOICES[name])}")
        if name.endswith("size") and not value.isdecimal():
            raise UserError(f"--compare {setting}: must be a whole number, such as {name}=32")
        values.setdefault(name, []).append(int(value) if name.endswith("size") else value)
    combined = [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]
    return Comparison(
        combined, [_planned(config, {**arguments, "topology": topology}, one) for one in combined]
    )


def _planned(config: Config, arguments: Mapping[str, Any], setting: Mapping[str, Any]) -> Plan:
    fields = {name: value for name, value in setting.items() if name in Config.__dataclass_fields__}
    others = {name: value for name, value in setting.items() if name not in fields}
    return plan(dataclasses.replace(config, **fields), **{**arguments, **others})
