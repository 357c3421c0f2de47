"""The served model's rotary frequencies, for keys that stand elsewhere than where they were computed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from agentmem.kv.rotation import Frequencies
from agentmem.latent.frequencies import frequencies
from agentmem.model.loader import LoadedModel
from agentmem.store.grid import SpliceRun


class Turning:
    """Read from the model's layers when first asked for. Used on the executor thread."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @cached_property
    def frequencies(self) -> list[Frequencies]:
        """Of each layer. Raises NOT_REPOSITIONABLE, naming the first layer that cannot be moved and why."""
        return frequencies(self._model)

    def of(self, splices: Sequence[SpliceRun]) -> list[Frequencies] | None:
        """What a timeline with these splices needs; None without any."""
        return self.frequencies if splices else None
