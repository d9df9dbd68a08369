"""Where a store lies: in a folder or at a URL."""

from __future__ import annotations

from pathlib import Path

from daml.folders import Folder
from daml.remote import Remote

Place = Folder | Remote


def place(store: str | Path) -> Place:
    """Give the place of a store: of a URL, or of a path.

    Raises
    ------
    InputError
        If nothing is known of such URLs.
    """
    text = str(store)
    if "://" not in text:
        return Folder(store)
    return Folder(text.removeprefix("file://")) if text.startswith("file://") else Remote(text)
