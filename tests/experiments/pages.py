"""What an experiment's report.html says, read from its embedded content."""

from pathlib import Path
from typing import Any

from tests.report.pages import content_of, names_other_files


def study_of(folder: Path) -> dict[str, Any]:
    """Title, text, figures and tables of the page's one study; the page asks nothing of any other place."""
    page = (folder / "report.html").read_text()
    assert not names_other_files(page)
    [study] = content_of(page)["studies"]
    return study


def cells_of(study: dict[str, Any]) -> set[str]:
    """All that its tables' rows hold."""
    return {cell for _, rows in study["tables"].values() for row in rows for cell in row}
