"""What a report's page says, for tests."""

import json
import re


def content_of(page):
    """The page's content, as data."""
    return json.loads(page.split('<script id="content" type="application/json">')[1].split("</script>")[0])


def names_other_files(page):
    """Whether an element of the page takes anything from elsewhere; the browser tests see what scripts do."""
    return bool(re.search(r"""<\w[^>]*(src|href)=["'](?!#)""", page.partition("<script")[0]))
