"""A model around another one, whose attributes it has unless it has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daml.protocols import Model


class Around:
    """Looks for what a class does not say itself in its ``model``."""

    model: Model

    @property
    def enclosed(self) -> Model:
        """The model inside, by whose name errors call this one."""
        return self.model

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "model" not in vars(self):  # a copy is empty at first
            raise AttributeError(name)
        return getattr(self.model, name)
