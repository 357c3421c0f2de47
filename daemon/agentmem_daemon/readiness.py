"""Where the daemon stands between start and stop, and the engine once there is one."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from agentmem.errors import AgentmemError, Reason

if TYPE_CHECKING:
    from agentmem.engine.engine import Engine
    from agentmem.engine.views import ModelInfo


class Phase(str, Enum):
    LOADING = "LOADING"
    SERVING = "SERVING"
    STUCK = "STUCK"
    STOPPING = "STOPPING"


class Readiness:
    """LOADING -> SERVING -> STOPPING, or LOADING -> STOPPING. Used on the event loop's thread only.

    While it serves it may be STUCK for a time: the engine takes requests as ever, and they wait.
    """

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.progress = 0.0
        self.message = "starting"
        self.model: ModelInfo | None = None
        self._engine: Engine | None = None
        self._started = time.monotonic()

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def engine(self) -> Engine:
        """The engine for a new request. Raises MODEL_LOADING before there is one, SHUTTING_DOWN when stopping."""
        if self.phase is Phase.STOPPING:
            raise AgentmemError(Reason.SHUTTING_DOWN, "The daemon is shutting down.")
        if self._engine is None:
            raise AgentmemError(
                Reason.MODEL_LOADING,
                f"The model is still loading ({self.progress:.0%}: {self.message}). Try again in a moment.",
                progress=f"{self.progress:.3f}",
            )
        return self._engine

    def loading(self, progress: float, message: str) -> None:
        """Notes how far loading is: 0..1, and in words."""
        if self.phase is Phase.LOADING:
            self.progress, self.message = progress, message

    def serving(self, engine: Engine, model: ModelInfo) -> None:
        self._engine, self.model = engine, model
        self.phase, self.progress, self.message = Phase.SERVING, 1.0, "serving"

    def stuck(self, message: str) -> bool:
        """Notes, in words, that one step takes very long. False, and nothing noted, unless it serves."""
        if self.phase is not Phase.SERVING:
            return False
        self.phase, self.message = Phase.STUCK, message
        return True

    def going_on(self) -> bool:
        """That step has ended. False, and nothing noted, if the daemon stops meanwhile."""
        if self.phase is not Phase.STUCK:
            return False
        self.phase, self.message = Phase.SERVING, "serving"
        return True

    def stopping(self) -> None:
        self.phase, self.message = Phase.STOPPING, "stopping"
