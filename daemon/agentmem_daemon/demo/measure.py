"""One agent's part: learn, be asked, and what the same question costs without a memory."""

from __future__ import annotations

from dataclasses import dataclass

from agentmem_client import AgentInfo, AgentNotFound, Client, Message, Reply

from agentmem_daemon.demo.cast import Character, Fact

MAX_ANSWER_TOKENS = 40
ROOM_FOR_A_QUESTION = 80
"""Positions that a question and its answer take at most."""

COLD_NAMESPACE = "demo-cold"
"""Nothing matches across namespaces, so whatever is asked here is computed from nothing."""


@dataclass(frozen=True)
class Answer:
    """A fact asked for, and what came back."""

    character: Character
    fact: Fact
    reply: Reply

    @property
    def is_right(self) -> bool:
        return self.character.is_right(self.reply.text, self.fact)


@dataclass(frozen=True)
class Restored:
    """The question after the restart. tokens: positions remembered before it. cold: the same without a memory."""

    answer: Answer
    tokens: int
    disk_bytes: int
    cold: Reply

    @property
    def reused_tokens(self) -> int:
        usage = self.answer.reply.usage
        return usage.reused_hot_tokens + usage.reused_warm_tokens

    @property
    def recomputed_tokens(self) -> int:
        return self.answer.reply.usage.recomputed_tokens

    @property
    def ttft_s(self) -> float:
        return self.answer.reply.timings.ttft_s

    @property
    def cold_ttft_s(self) -> float:
        return self.cold.timings.ttft_s

    @property
    def speedup(self) -> float:
        return self.cold_ttft_s / self.ttft_s

    def complaints(self) -> list[str]:
        """What should not be: a wrong answer, remembered tokens computed again, or a cold run that was not cold."""
        name, wrong = self.answer.character.name, []
        if not self.answer.is_right:
            wrong.append(wrong_answer(self.answer))
        if self.recomputed_tokens or self.reused_tokens != self.tokens:
            wrong.append(
                f"{name} remembered {self.tokens} tokens, of which {self.reused_tokens} were reused and "
                f"{self.recomputed_tokens} recomputed"
            )
        if self.cold.usage.prefill_tokens != self.cold.usage.prompt_tokens:
            wrong.append(f"{name}'s cold run found state to reuse, so that its time says nothing")
        return wrong


def wrong_answer(answer: Answer) -> str:
    fact = answer.fact
    return f"{answer.character.name} was asked {fact.question!r} and said {answer.reply.text!r}, not {fact.value!r}"


def find(client: Client, character: Character) -> AgentInfo | None:
    try:
        return client.agent(character.name).info()
    except AgentNotFound:
        return None


def lesson_turns(character: Character) -> int:
    """Turns that `learn` makes: the messages, and the text."""
    return len(character.lesson()) + 1


def questions_asked(character: Character, info: AgentInfo) -> int:
    return info.turn - lesson_turns(character)


def why_anew(character: Character, info: AgentInfo | None, context_limit: int) -> str | None:
    """Why the agent must learn (again) before it can be asked twice; None if it need not."""
    if info is None:
        return "it knows nothing yet"
    if not info.model_matches:
        return "another model computed its memory"
    if questions_asked(character, info) < 0:
        return "an earlier run broke off while it learned"
    if info.tokens + ROOM_FOR_A_QUESTION > context_limit:
        return f"its memory of {info.tokens} tokens leaves no room for a question in a context of {context_limit}"
    return None


def learn(client: Client, character: Character) -> None:
    """The agent anew: facts from chat, then the text."""
    agent = client.agent(character.name)
    if find(client, character) is not None:
        agent.delete()
    for message in character.lesson():
        agent.chat(message, max_tokens=MAX_ANSWER_TOKENS)
    agent.append([Message("user", character.text)])


def ask(client: Client, character: Character) -> Answer:
    """The next question, answered greedily."""
    agent = client.agent(character.name)
    fact = character.fact_to_ask(questions_asked(character, agent.info()))
    return Answer(character, fact, agent.chat(fact.question, max_tokens=MAX_ANSWER_TOKENS))


def ask_restored(client: Client, character: Character) -> Restored:
    """The next question, of an agent whose memory is on disk only; then the same question without that memory.

    The cold side comes second, in a process that is warm by then: what favour there is, is the cold side's.
    """
    agent = client.agent(character.name)
    tokens = agent.info().tokens
    said = [one.message for turn in agent.turns(include_messages=True) for one in turn.messages]
    answer = ask(client, character)
    disk_bytes = agent.info().disk_bytes
    scratch = client.agent(character.name, namespace=COLD_NAMESPACE)
    try:
        cold = scratch.chat([*said, Message("user", answer.fact.question)], max_tokens=1)
    finally:
        scratch.delete()
    return Restored(answer, tokens, disk_bytes, cold)
