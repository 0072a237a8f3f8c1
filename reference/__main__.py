"""Writes the pages: ``python -m reference``."""

from __future__ import annotations

from reference import ROOT, config, messages, sweep, verbs

PAGES = {
    "config.md": config.page,
    "sweep.md": sweep.page,
    "verbs.md": verbs.page,
    "messages.md": messages.page,
}


def main() -> None:
    """Writes each page to docs/reference."""
    for name, page in PAGES.items():
        (ROOT / "docs" / "reference" / name).write_text(page())


if __name__ == "__main__":
    main()
