"""The links and anchors of a page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import markdown


class Page(HTMLParser):
    """What a page of HTML links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            if name == "id" and value:
                self.anchors.add(value)


def of_markdown(text: str) -> Page:
    """Returns a page as GitHub shows it."""
    return Page(markdown.markdown(text, extensions=["fenced_code", "tables", "toc"]))


def dead(page: Page, file: Path, pages: dict[Path, Page]) -> list[str]:
    """Returns the links of a page to files and anchors that do not exist; others are left alone.

    Args:
        page: The page.
        file: Its file.
        pages: All pages, by file.
    """
    found = []
    for link in page.links:
        address = urlsplit(link)
        if address.scheme or address.netloc:
            continue
        path = (file.parent / unquote(address.path)).resolve() if address.path else file
        anchors = pages[path].anchors if path in pages else set()
        if not path.exists() or (
            address.fragment
            and path in pages
            and not anchors & {address.fragment, unquote(address.fragment)}
        ):
            found.append(link)
    return found
