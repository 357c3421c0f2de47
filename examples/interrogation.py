"""Five phases with persistent roles. Each phase appends what is new: nothing that was said is computed again.

The witness knows the case; the interrogator asks, and notes what it hears. In the last phase the interrogator is asked
alone: all that it knows it has from the phases before. Both stay in memory, and would survive the daemon's death.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from agentmem_client import AgentNotFound, Appended, Client, Reply

NAMESPACE = "example-interrogation"
CASE = "Alice's badge is cedar-42. Omar's badge is raven-17. Alice's street is willow. Omar's street is orchid."
QUESTIONS = (
    "What is Alice's badge?",
    "What is Omar's street?",
    "What is Omar's badge?",
    "What is Alice's street?",
)
VERDICT = "What is Omar's badge?"


@dataclass(frozen=True)
class Phase:
    """One question and its answer. read: tokens computed in this phase; again: of those, ones computed before."""

    question: str
    answer: str
    remembered: int
    read: int
    again: int


def main(client: Client) -> list[Phase]:
    client.create_namespace(NAMESPACE)
    witness, interrogator = (client.agent(name, NAMESPACE) for name in ("witness", "interrogator"))
    for agent in (witness, interrogator):
        with suppress(AgentNotFound):  # of an earlier run that was cut short
            agent.delete()
    witness.append([{"role": "user", "content": CASE}])

    phases = []
    for question in QUESTIONS:
        heard = witness.chat(question, max_tokens=40)
        noted = interrogator.append([{"role": "user", "content": f"The witness says: {heard.text.strip()}"}])
        phases.append(_phase(question, heard, noted))
    phases.append(_phase(VERDICT, interrogator.chat(VERDICT, max_tokens=40)))

    for number, phase in enumerate(phases, 1):
        print(
            f"{number}. {phase.question} {phase.answer} "
            f"({phase.remembered} tokens remembered, {phase.read} read, {phase.again} computed again)"
        )
    for agent in (witness, interrogator):
        agent.delete()
    return phases


def _phase(question: str, reply: Reply, *noted: Appended) -> Phase:
    """noted: what the interrogator read of the reply."""
    remembered = reply.usage.reused_hot_tokens + reply.usage.reused_warm_tokens
    usages = [reply.usage, *(one.usage for one in noted)]
    read, again = (sum(usage.prefill_tokens for usage in usages), sum(usage.recomputed_tokens for usage in usages))
    return Phase(question, reply.text.strip(), remembered, read, again)


if __name__ == "__main__":
    with Client() as client:
        main(client)
