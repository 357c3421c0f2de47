"""What the daemon can be told: by arguments, else by AGENTMEM_* in the environment, else the defaults here."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from agentmem_client.discovery import default_socket_path, default_state_dir
from pydantic import AfterValidator, ByteSize, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentmem.types import PrefillPath


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _loopback(host: str) -> str:
    """A literal loopback address, so that no resolver decides who can reach the daemon."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(f"the daemon listens on this machine only; {host!r} is not a loopback address such as 127.0.0.1")


UserPath = Annotated[Path, AfterValidator(_absolute)]
KeyPlace = Annotated[Literal["keychain"] | UserPath, Field(union_mode="left_to_right")]


class DaemonSettings(BaseSettings):
    """Paths become absolute. Raises pydantic.ValidationError, whose messages are for people."""

    model_config = SettingsConfigDict(env_prefix="AGENTMEM_", env_ignore_empty=True, validate_default=True)

    model: str | None = Field(None, description="Folder or Hugging Face id; the embedded model if unset.")
    state: UserPath = Field(default_factory=default_state_dir, description="Folder of everything remembered.")
    socket: UserPath = Field(default_factory=lambda data: default_socket_path(data["state"]))
    tcp_host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    tcp_port: int | None = Field(None, ge=1, le=65535, description="Listen on this loopback port too.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: UserPath | None = Field(None, description="stderr if unset.")
    shutdown_deadline_s: float = Field(10.0, ge=0, le=3600, description="Running turns get this long to finish.")
    max_queue: int = Field(256, ge=1, description="Requests that may wait.")
    max_batch: int = Field(32, ge=1, description="Requests that may run at once.")
    ram_budget: ByteSize | None = Field(None, description="For what agents hold; by the machine if unset.")
    disk_budget: ByteSize | None = Field(None, description="For all blocks and records; a tenth of the free disk.")
    stuck_s: float = Field(120.0, gt=0, description="A step that lasts longer makes the daemon NOT_SERVING.")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="Prometheus figures on this loopback port.")
    otlp_endpoint: str | None = Field(None, pattern=r"^https?://", description="Send traces here; OTEL_* if unset.")
    otlp_names: bool = Field(False, description="Tell agents' names in traces.")
    lag_s: float = Field(2.0, ge=0, le=3600, description="Age of unsaved turns at which the next one waits.")
    lag_bytes: ByteSize = Field(ByteSize(64 << 20), description="What may wait for the disk in RAM.")
    prefill_path: PrefillPath = Field(PrefillPath.AUTO, description="How prompts are attended to.")
    encrypt: KeyPlace | None = Field(None, description="Where the key is of an encrypted state folder.")

    @field_validator("encrypt")
    @classmethod
    def _is_elsewhere(cls, place: Path | str | None, info: ValidationInfo) -> Path | str | None:
        if isinstance(place, Path) and "state" in info.data and place.is_relative_to(info.data["state"]):
            raise ValueError("the key must not lie in the state folder that it protects")
        return place

    @property
    def tcp(self) -> tuple[str, int] | None:
        return None if self.tcp_port is None else (self.tcp_host, self.tcp_port)
