"""Who takes part in the demo: three agents, what each is told, what it reads, and what it is asked.

An agent's four facts cross two subjects with two attributes, so that no question is answered by the subject alone or
by the attribute alone. Names and values are among those that the embedded model's training held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Fact:
    """value: what a right answer contains."""

    statement: str
    question: str
    value: str


@dataclass(frozen=True)
class Character:
    name: str
    facts: tuple[Fact, Fact, Fact, Fact]

    @property
    def text(self) -> str:
        """What the agent reads, 1,200 to 1,350 tokens of the embedded model's tokenizer."""
        return (files(__package__) / "texts" / f"{self.name}.txt").read_text("utf-8").strip()

    def lesson(self) -> list[str]:
        """The messages that state the facts, two facts each."""
        first, second, third, fourth = (fact.statement for fact in self.facts)
        return [f"{first} {second}", f"{third} {fourth}"]

    def fact_to_ask(self, asked: int) -> Fact:
        """The next fact after `asked` questions; neighbours share neither subject nor attribute."""
        return self.facts[(0, 3, 1, 2)[asked % 4]]

    def is_right(self, answer: str, fact: Fact) -> bool:
        """Whether the answer names the value, and no other fact's."""
        return [f for f in self.facts if f.value in answer] == [fact]


CAST = (
    Character(
        "planner",
        (
            Fact("Alice's badge is cedar-42.", "What is Alice's badge?", "cedar-42"),
            Fact("Omar's badge is raven-17.", "What is Omar's badge?", "raven-17"),
            Fact("Alice's street is willow.", "What is Alice's street?", "willow"),
            Fact("Omar's street is orchid.", "What is Omar's street?", "orchid"),
        ),
    ),
    Character(
        "researcher",
        (
            Fact("Felix's sensor is 7319.", "What is Felix's sensor?", "7319"),
            Fact("Nadia's sensor is 2741.", "What is Nadia's sensor?", "2741"),
            Fact("Felix's island is Tuesday.", "What is Felix's island?", "Tuesday"),
            Fact("Nadia's island is Friday.", "What is Nadia's island?", "Friday"),
        ),
    ),
    Character(
        "critic",
        (
            Fact("My favourite colour is amber.", "What is my favourite colour?", "amber"),
            Fact("Nadia's favourite colour is copper.", "What is Nadia's favourite colour?", "copper"),
            Fact("My favourite city is Dublin.", "What is my favourite city?", "Dublin"),
            Fact("Nadia's favourite city is Kyoto.", "What is Nadia's favourite city?", "Kyoto"),
        ),
    ),
)
