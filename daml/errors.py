"""What daml raises, so that a script can tell a wrong input from a run that failed."""


class DamlError(Exception):
    """Base of all errors that daml raises on purpose; its text is one line with the mend."""


class InputError(DamlError, ValueError):
    """What was given cannot be used; nothing was changed."""


class StoreError(DamlError, OSError):
    """A file or a store cannot be read or written."""


class DivergedError(DamlError, FloatingPointError):
    """A model or a training left the finite numbers."""
