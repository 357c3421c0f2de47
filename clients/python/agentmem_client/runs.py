"""The call that runs agents together, and the options it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from agentmem.v1 import primitives_pb2
from agentmem_client import choices, inputs


class RunOptions(TypedDict, total=False):
    """What a run takes; None leaves it to the daemon.

    With neither a primitive nor a plan, the organizer chooses one: that of the knowledge pool's nearest entry, one
    agent where none is near, or with compose one that the model is asked for. plan: as JSON or as what it says, for
    instance of an earlier result. medium: how agents hand over to each other: "latent", as state; "text"; "both", as
    state with the text behind it. agent: the first agents of the run remember as much as this one, which stays as it
    is. context: a text that they read. max_tokens: the most that one agent writes at a time. latent_steps: taken before
    an agent hands over or writes, unless the medium is "text". rounds, solvers, executors: of every review, vote and
    plan_execute of the plan; one that has none is refused if it is the caller's, else the result's notes say so.
    """

    namespace: str
    primitive: Literal["answer", "review", "vote", "plan_execute"] | None
    plan: str | Mapping[str, Any] | None
    compose: bool
    medium: Literal["latent", "text", "both"] | None
    agent: str | None
    context: str
    max_tokens: int | None
    latent_steps: int | None
    temperature: float | None
    rounds: int | None
    solvers: int | None
    executors: int | None
    seed: int | None
    priority: Literal["low", "normal", "high"]


def run(
    query: str,
    *,
    namespace: str = "default",
    primitive: str | None = None,
    plan: str | Mapping[str, Any] | None = None,
    compose: bool = False,
    medium: str | None = None,
    agent: str | None = None,
    context: str = "",
    max_tokens: int | None = None,
    latent_steps: int | None = None,
    temperature: float | None = None,
    rounds: int | None = None,
    solvers: int | None = None,
    executors: int | None = None,
    seed: int | None = None,
    priority: str = "normal",
) -> primitives_pb2.RunRequest:
    return primitives_pb2.RunRequest(
        namespace=inputs.text(namespace, "The namespace"),
        query=inputs.text(query, "The query"),
        primitive=choices.primitive(primitive),
        plan=inputs.plan(plan),
        compose=bool(compose),
        medium=choices.medium(medium),
        agent=inputs.text(agent or "", "The agent's name"),
        context=inputs.text(context, "The context"),
        max_tokens=inputs.optional_unsigned(max_tokens, "max_tokens", 32),
        latent_steps=inputs.optional_unsigned(latent_steps, "latent_steps", 32),
        temperature=inputs.optional_number(temperature, "temperature"),
        rounds=inputs.optional_unsigned(rounds, "rounds", 32),
        solvers=inputs.optional_unsigned(solvers, "solvers", 32),
        executors=inputs.optional_unsigned(executors, "executors", 32),
        seed=inputs.optional_unsigned(seed, "seed", 64),
        priority=choices.priority(priority),
    )
