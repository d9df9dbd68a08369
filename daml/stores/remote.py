"""A store at a URL that fsspec reaches, with the guarantees of a folder."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import PurePath, PurePosixPath
from typing import Any, cast

from daml.errors import DamlError, InputError, StoreError, first_line, writing
from daml.stores.folder import LOCK, REFUSED, ROOT

LEASE = 60.0
"""Seconds after which a lock is dead, unless its run has renewed it."""


class Remote:
    """A prefix of an object store, or what else fsspec reaches: attributes as of a folder."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.address = url.rstrip("/")
        self.held: str | None = None
        try:
            # Other machines write there, too: what was listed once may not hold any more.
            self.fs, self.prefix = url_to_fs(self.address, use_listings_cache=False)
        except ImportError as error:
            raise InputError(
                f"{url}: {first_line(error)}; for s3:// install daml-xarray[remote]"
            ) from error
        except Exception as error:  # each file system has its own
            raise InputError(
                f"{url}: cannot be a store ({first_line(error)}); check the URL, or give a path"
            ) from error

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """Turn what went wrong on the way into one error."""
        try:
            yield
        except (DamlError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            raise StoreError(
                f"{self.address}: cannot {what} ({first_line(error)}); check the URL, the "
                "credentials and that the server answers"
            ) from error

    def _at(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    def exists(self) -> bool:
        """Whether anything is there, but for a lock."""
        with self._reported("read"):
            try:
                found = self.fs.find(self.prefix)
            except FileNotFoundError:
                return False
            return any(name != self._at(LOCK) for name in found)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        with self._reported("read"):
            return bool(self.fs.exists(self._at(name)))

    def read(self, name: str) -> bytes:
        """Give a file; an OSError where there is none."""
        with self._reported("read"):
            return cast("bytes", self.fs.cat_file(self._at(name)))

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        with self.writing(name):
            if self.held is not None and self._holder().get("run") != self.held:
                raise StoreError(
                    f"{self.address}: another run has taken it over, as this one had not answered "
                    f"for {LEASE:g} s; what was finished is kept"
                )
            self.fs.pipe_file(self._at(name), content)

    def put_all(self, content: dict[str, bytes]) -> None:
        """Write files at once, in any order."""
        with self.writing("the record"):
            self.fs.pipe({self._at(name): part for name, part in content.items()})

    def writing(self, name: str) -> AbstractContextManager[None]:
        """Turn what a library raises where it cannot write into one error."""
        # Each library below fsspec has errors of its own.
        return writing(self.address, name, (Exception,))

    def remove(self, name: str) -> None:
        """Remove a file, or all whose names go on after it."""
        with self._reported("remove"), suppress(FileNotFoundError):
            self.fs.rm(self._at(name), recursive=True)

    def documents(self, group: str) -> dict[str, bytes]:
        """Give the metadata of a group and of all below it, by name."""
        with self._reported("read"):
            names = [p for p in self.fs.find(self._at(group).rstrip("/")) if p.endswith(f"/{ROOT}")]
            found = self.fs.cat(names) if names else {}
            start, stop = len(self.prefix) + 1, -len(ROOT) - 1
            return {name[start:stop]: document for name, document in found.items()}

    def names(self) -> list[str]:
        """Give all files below, as paths from here."""
        with self._reported("read"):
            return [name[len(self.prefix) + 1 :] for name in self.fs.find(self.prefix)]

    def identity(self) -> PurePath:
        """Give an identifier of this place."""
        return PurePosixPath(self.address)

    def check_writable(self, replaced: bool = False) -> None:
        """Refuse a URL where nothing can be written; change nothing."""
        probe = f".{uuid.uuid4().hex}.probe"
        try:
            self.fs.pipe_file(self._at(probe), b"")
            self.fs.rm(self._at(probe))
        except Exception as error:
            raise StoreError(
                f"{self.address}: cannot write there ({first_line(error)}); check the bucket and "
                "the credentials, or give another URL"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs off, by a file that a run renews as long as it lives."""
        self._take(uuid.uuid4().hex)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            # A server that is gone must not hide why the run ended; the lock dies with its lease.
            with suppress(Exception):
                if self._holder().get("run") == self.held:
                    self.remove(LOCK)
            self.held = None

    def _take(self, run: str) -> None:
        for _ in range(2):
            with self.writing(LOCK):
                try:
                    self.fs.pipe_file(self._at(LOCK), _signed(run), mode="create")
                    break
                except FileExistsError:
                    holder = self._holder()
            if holder.get("run") == run:  # the server made the file and its answer was lost
                break
            if time.time() - holder.get("time", 0.0) < LEASE:
                raise StoreError(f"{self.address}: {REFUSED} (it runs on {holder.get('host')})")
            self.remove(LOCK)
        else:
            raise StoreError(f"{self.address}: {REFUSED}")
        self.held = run

    def _holder(self) -> dict[str, Any]:
        """Give what the lock says."""
        try:
            found = json.loads(self.read(LOCK))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(LEASE / 6):
            # If the server does not answer, the next write reports it.
            with suppress(Exception):
                if self.held is not None and self._holder().get("run") == self.held:
                    self.fs.pipe_file(self._at(LOCK), _signed(self.held))

    @contextmanager
    def aside(self) -> Iterator[Remote]:
        """Give the place itself: what has no root yet is seen by nobody; nothing, on an error."""
        try:
            yield self
        except BaseException:
            with suppress(Exception):
                self.fs.rm(self.prefix, recursive=True)
            raise


def _signed(run: str) -> bytes:
    return json.dumps({"run": run, "host": socket.gethostname(), "time": time.time()}).encode()
