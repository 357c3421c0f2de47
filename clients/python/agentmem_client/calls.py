"""Every RPC as a value: the request, how to read the response, the default deadline. Sync and async send the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar

from agentmem.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    agents_pb2,
    agents_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    types_pb2,
)
from agentmem_client import convert, inputs
from agentmem_client.types import AgentInfo, Appended, Rewound, Stats, Status, Turn

T = TypeVar("T")

ADMIN_TIMEOUT = 30.0


class Stubs(
    agents_pb2_grpc.AgentServiceStub, generation_pb2_grpc.GenerationServiceStub, admin_pb2_grpc.AdminServiceStub
):
    """All methods of the three services, by their names, which are unique."""

    def __init__(self, channel: Any) -> None:
        for service in Stubs.__bases__:
            service.__init__(self, channel)  # type: ignore[misc]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A unary call. timeout: its default deadline in seconds, None for none."""

    method: str
    request: Any
    read: Callable[[Any], T]
    timeout: float | None = ADMIN_TIMEOUT


@dataclass(frozen=True)
class Page(Generic[T]):
    """next_token: empty on the last page."""

    items: tuple[T, ...]
    next_token: str


def first_set(*timeouts: float | None) -> float | None:
    return next((timeout for timeout in timeouts if timeout is not None), None)


class TurnOptions(TypedDict, total=False):
    """What every call that adds a turn takes.

    create: make the agent if it does not exist (the default). rebuild: recompute a timeline of another model
    from the record first. request_id: a repeat returns the committed result. expect_turn: TurnMismatch if the
    agent's last turn is another one. on_cancel: what becomes of the turn if the caller goes away.
    """

    create: bool
    rebuild: bool
    request_id: str | None
    expect_turn: int | None
    on_cancel: Literal["commit", "discard"]


class GenerateOptions(TurnOptions, total=False):
    """What calls that generate take besides; see `agentmem.v1.Sampling` for ranges and defaults."""

    temperature: float
    top_p: float | None
    top_k: int
    seed: int | None
    max_tokens: int | None
    stop: str | Sequence[str]
    include_token_ids: bool


def generate(
    ref: types_pb2.AgentRef,
    prompt: types_pb2.Input,
    *,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int = 0,
    seed: int | None = None,
    max_tokens: int | None = None,
    stop: str | Sequence[str] = (),
    include_token_ids: bool = False,
    create: bool = True,
    rebuild: bool = False,
    request_id: str | None = None,
    expect_turn: int | None = None,
    on_cancel: str = "commit",
) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(
        agent=ref,
        mode=generation_pb2.INPUT_MODE_APPEND,
        input=prompt,
        sampling=inputs.sampling(temperature, top_p, top_k, seed, max_tokens, stop),
        include_token_ids=include_token_ids,
        create=create,
        rebuild=rebuild,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        on_cancel=inputs.on_cancel(on_cancel),
    )


def append(
    ref: types_pb2.AgentRef,
    prompt: types_pb2.Input,
    *,
    create: bool = True,
    rebuild: bool = False,
    request_id: str | None = None,
    expect_turn: int | None = None,
    on_cancel: str = "commit",
) -> Call[Appended]:
    request = generation_pb2.AppendRequest(
        agent=ref,
        input=prompt,
        create=create,
        rebuild=rebuild,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
        on_cancel=inputs.on_cancel(on_cancel),
    )
    # No deadline: how long a text takes to compute is not for the client to guess.
    return Call("Append", request, lambda response: convert.appended(response, request.request_id), timeout=None)


def create_agent(ref: types_pb2.AgentRef, request_id: str | None) -> Call[AgentInfo]:
    request = agents_pb2.CreateAgentRequest(agent=ref, request_id=inputs.request_id(request_id))
    return Call("CreateAgent", request, lambda response: convert.agent(response.agent))


def get_agent(ref: types_pb2.AgentRef) -> Call[AgentInfo]:
    return Call("GetAgent", agents_pb2.GetAgentRequest(agent=ref), lambda response: convert.agent(response.agent))


def list_agents(namespace: str, hot_only: bool, page_size: int, page_token: str) -> Call[Page[AgentInfo]]:
    request = agents_pb2.ListAgentsRequest(
        namespace=inputs.text(namespace, "The namespace"),
        hot_only=hot_only,
        page_size=inputs.unsigned(page_size, "page_size", 32),
        page_token=page_token,
    )
    return Call("ListAgents", request, lambda r: Page(tuple(map(convert.agent, r.agents)), r.next_page_token))


def delete_agent(ref: types_pb2.AgentRef, request_id: str | None, expect_turn: int | None) -> Call[int]:
    request = agents_pb2.DeleteAgentRequest(
        agent=ref,
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    return Call("DeleteAgent", request, lambda response: response.freed_bytes)


def fork_agent(
    ref: types_pb2.AgentRef, new_name: str, at_turn: int | None, request_id: str | None, expect_turn: int | None
) -> Call[AgentInfo]:
    request = agents_pb2.ForkAgentRequest(
        agent=ref,
        new_name=inputs.text(new_name, "The new agent's name"),
        at_turn=inputs.optional_unsigned(at_turn, "at_turn"),
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    return Call("ForkAgent", request, lambda response: convert.agent(response.agent))


def rewind_agent(
    ref: types_pb2.AgentRef, to_turn: int, request_id: str | None, expect_turn: int | None
) -> Call[Rewound]:
    request = agents_pb2.RewindAgentRequest(
        agent=ref,
        to_turn=inputs.unsigned(to_turn, "to_turn", 64),
        request_id=inputs.request_id(request_id),
        expect_turn=inputs.optional_unsigned(expect_turn, "expect_turn"),
    )
    return Call("RewindAgent", request, lambda r: Rewound(convert.agent(r.agent), r.tokens_to_recompute))


def list_turns(ref: types_pb2.AgentRef, include_messages: bool, page_token: str) -> Call[Page[Turn]]:
    request = agents_pb2.ListTurnsRequest(agent=ref, include_messages=include_messages, page_token=page_token)
    return Call("ListTurns", request, lambda r: Page(tuple(map(convert.turn, r.turns)), r.next_page_token))


def get_status() -> Call[Status]:
    return Call("GetStatus", admin_pb2.GetStatusRequest(), convert.status)


def get_stats() -> Call[Stats]:
    return Call("GetStats", admin_pb2.GetStatsRequest(), convert.stats)
