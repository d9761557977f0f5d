"""Write docs/reference/recipes.md: `python -m tests.papers.page`."""

from collections.abc import Iterator
from pathlib import Path

from cnnjax.papers import RECIPES
from cnnjax.papers.recipe import Recipe, short

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "recipes.md"
HEAD = """# The papers' recipes

By `python -m tests.papers.page`. `cnnjax train --recipe NAME --out FOLDER` follows one; other flags change
it. Fields that are not listed have the defaults of `cnnjax.Config`. Where a paper does not say how long its
plateaus are, they are 5 epochs. Tests during training are of one crop and the last weights; `cnnjax evaluate`
has the papers' crops.
"""


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([HEAD, *(line for name, one in RECIPES.items() for line in _section(name, one))])


def _section(name: str, recipe: Recipe) -> Iterator[str]:
    yield from (f"## {name}", "", recipe.paper, "", "| field | value | source |", "|---|---|---|")
    for field, choice in recipe.choices.items():
        yield f"| `{field}` | {short(choice.value)} | {choice.source} |"
    if recipe.differs:
        yield from ("", "Not as in the paper:", "", *(f"- {line}" for line in recipe.differs))
    if recipe.published:
        yield from ("", "| network | published |", "|---|---|")
        yield from (f"| `{model}` | {error} |" for model, error in recipe.published.items())
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
