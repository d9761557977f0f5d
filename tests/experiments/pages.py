"""What an experiment's report.html says, read from its embedded content."""

import json
import re
from pathlib import Path
from typing import Any


def study_of(folder: Path) -> dict[str, Any]:
    """Title, text, figures and tables of the page's one study; the page asks nothing of any other place."""
    page = (folder / "report.html").read_text()
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["'](?!data:)""", page)
    content = json.loads(page.split('<script id="content" type="application/json">')[1].split("</script>")[0])
    [study] = content["studies"]
    return study


def cells_of(study: dict[str, Any]) -> set[str]:
    """All that its tables' rows hold."""
    return {cell for _, rows in study["tables"].values() for row in rows for cell in row}
