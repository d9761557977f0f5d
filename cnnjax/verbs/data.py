"""The verb `cnnjax data`."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.papers import recipe
from cnnjax.verbs.options import parse_options


@dataclasses.dataclass(frozen=True)
class Data:
    """Fetch, check and prepare a data set, and show where it is stored; without a name, list all."""

    name: tyro.conf.Positional[str] = ""
    """The data set, or a folder of photographs."""
    data_dir: Path | None = None
    """Folder that holds the official archives; then nothing is downloaded."""
    source: Literal["auto", "tfds", "archives"] = "auto"
    """Reader to use: tensorflow-datasets, our own, or whichever works."""
    verify: bool = True
    """Whether archives must have the official checksums."""
    check: bool = False
    """Read every picture of a folder, and list all that is odd; exit code 2 if not all can be used."""
    show: bool = False
    """Draw a batch as training sees it, beside the originals."""
    recipe: str | None = None
    """The paper's recipe to show, of those that `cnnjax recipes` lists."""
    settings: tuple[str, ...] = ()
    """Fields of the run to show, such as augment=crop_flip cutout=8 seed=1."""
    step: int = 0
    """The step whose batch to show."""
    out: Path = Path("contact_sheet.png")
    """PNG to draw it to."""

    def run(self) -> None:
        """Print where the data lies and what it holds."""
        from cnnjax.data import fetch, find, is_streamed, list_datasets, open_data, prepare_imagenet, spec
        from cnnjax.data.streams import IMAGENET
        from cnnjax.terminal import show, table

        if (self.recipe or self.settings or self.step) and not self.show:
            raise UserError("--recipe, --settings and --step say what to --show: give that too")
        if self.check:
            self._check()
            return
        if self.show:
            self._show()
            return
        if not self.name:
            if self.data_dir:
                raise UserError(
                    f"--data-dir {self.data_dir}: say of which data set, as in `cnnjax data cifar10`"
                )
            rows = [(name, spec(name).title, str(find(name) or "not here")) for name in list_datasets()]
            show(table(rows, align="l"))
            return
        if is_streamed(self.name):
            if self.source != "auto" or not self.verify:
                raise UserError(f"{self.name}: --source and --no-verify are for archives; leave them out")
            if self.data_dir and self.name == IMAGENET:
                print(prepare_imagenet(self.data_dir))
            else:
                print(open_data(self.name, data_dir=self.data_dir))
            return
        print(fetch(self.name, self.data_dir, source=self.source, verify=self.verify))

    def _show(self) -> None:
        from cnnjax.data import open_data
        from cnnjax.showing import show

        if self.step < 0:
            raise UserError(f"--step {self.step}: must not be negative")
        base = Config() if self.recipe is None else recipe(self.recipe)
        changes = {"data": self.name or base.data, **parse_options("--settings", self.settings)}
        config = Config.from_json({**base.to_json(), **changes})
        data = open_data(config.data, data_dir=self.data_dir, verify=self.verify)
        print(show(config, self.out, self.step, data=data))

    def _check(self) -> None:
        from cnnjax.data.check import check_folder
        from cnnjax.terminal import show

        if not self.name or not Path(self.name).expanduser().is_dir():
            raise UserError(
                f"--check reads the pictures of a folder: there is no folder {self.name or 'named'}"
            )
        report = check_folder(Path(self.name).expanduser())
        show(report)
        if report.lost:
            raise UserError(
                f"{self.name}: {report.lost:,} pictures can't be used: remove, mend or rename them, or train "
                "with --unreadable skip"
            )
