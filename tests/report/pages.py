"""What a report's page says, for tests."""

import json
import re
from pathlib import Path


def content(path: Path) -> dict:
    """The page's content, as data."""
    return content_of(path.read_text())


def content_of(page: str) -> dict:
    """As `content`, of the page's text."""
    return json.loads(
        re.search(r'<script id="content" type="application/json">(.*?)</script>', page, re.S)[1]
    )


def figures(path: Path) -> int:
    """How many figures the page's experiment has."""
    (study,) = content(path)["studies"]
    return len(study["figures"])


def names_other_files(path: Path) -> bool:
    """Whether an element of the page takes anything from elsewhere; the browser tests see what scripts do."""
    return bool(re.search(r"""<\w[^>]*(src|href)=["'](?!#)""", path.read_text().partition("<script")[0]))
