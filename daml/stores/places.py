"""Where a store lies: in a folder or at a URL."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from daml.errors import InputError
from daml.stores.folder import Folder
from daml.stores.remote import Remote

Place = Folder | Remote


def place(store: str | Path) -> Place:
    """Give the place of a store: of a URL, or of a path.

    Raises
    ------
    InputError
        If it cannot be that of a store.
    """
    if not isinstance(store, (str, os.PathLike)) or not os.fspath(store):
        raise InputError(f"store is {store!r}; give a path or a URL")
    text = str(store)
    if "://" in text and not text.startswith("file://"):
        return Remote(text)
    path = Path(text.removeprefix("file://"))
    try:
        path.lstat()
    except ValueError as error:
        raise InputError(f"store is {text!r} ({error}); give another path") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"{text[:60]}...: a name of {len(text)} characters is too long; give another path"
            ) from error
    return Folder(path)
