"""Training samples: conversations that state facts between prose and ask for them, and repeated noise.

A sample is (ids, scored): token ids of exactly the length asked for, and for each position whether the
model is trained to predict it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import numpy as np
from tokenizers import Tokenizer

from training import facts
from training.tokenizer import ASSISTANT, BOS, END, SYSTEM, USER

NOISE, LEAD, VALUE, FIRST = 1, 2, 3, 4
"""What a scored position is: a repeat of noise, restating the question, the remembered value, its first token."""


@dataclass
class Mix:
    """What share of the samples is what; raised step by step as training goes on."""

    noise: float = 0.5
    dense: float = 0.0  # conversations of many facts and questions, little prose
    unknown: float = 0.0
    corrections: float = 0.0


@dataclass
class Sampler:
    tokenizer: Tokenizer
    prose: list[list[int]]
    rng: Random
    test: bool = False
    specials: dict[str, int] = field(init=False)
    noted: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.specials = {t: self.tokenizer.token_to_id(t) for t in (BOS, SYSTEM, USER, ASSISTANT, END)}
        self.noted = self.reply_ids(facts.NOTED)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def reply_ids(self, text: str) -> list[int]:
        return [self.specials[ASSISTANT], *self.encode(text), self.specials[END]]

    def batch(self, count: int, length: int, mix: Mix) -> tuple[np.ndarray, np.ndarray]:
        """ids [count, length] int64 and scored [count, length] int8 (0 unscored, LEAD, VALUE)."""
        ids = np.zeros((count, length), np.int64)
        scored = np.zeros((count, length), np.int8)
        for row in range(count):
            make = self.noise if self.rng.random() < mix.noise else self.conversation
            one, marks = make(length, mix)
            ids[row], scored[row] = one, marks
        return ids, scored

    def noise(self, length: int, mix: Mix) -> tuple[list[int], list[int]]:
        """A random run of tokens repeated until the sample is full: what only induction predicts.

        A small alphabet makes short contexts ambiguous, so that matching must look further back.
        """
        rng, vocabulary = self.rng, self.tokenizer.get_vocab_size()
        period = rng.randint(8, max(9, min(256, length // 2)))
        alphabet = rng.choices(range(5, vocabulary), k=rng.choice([6, 12, 24, 100, 2000]))
        run = rng.choices(alphabet, k=period)
        ids = (run * (length // period + 1))[:length]
        return ids, [0] * period + [NOISE] * (length - period)

    def conversation(self, length: int, mix: Mix) -> tuple[list[int], list[int]]:
        rng = self.rng
        source = facts.Source(rng, self.test)
        dense = rng.random() < mix.dense
        known = facts.world(source, *self._grid(length, dense), keep=rng.choice([0.6, 0.8, 1.0]))
        turns, told = self._told(known, source, mix, dense)
        questions = self._questions(told, source, mix, 32 if dense else 10)
        cost = 1 + sum(len(t) for t, _ in turns + questions)
        while cost > length and len(questions) > 1:
            cost -= len(questions.pop()[0])
        if cost > length:
            return self.conversation(length, mix)
        ids, marks = [self.specials[BOS]], [0]
        for t, m in self._spread(turns, questions, length - cost):
            ids += t
            marks += m
        pad = length - len(ids)
        return ids + [self.specials[END]] * pad, marks + [0] * pad

    def _grid(self, length: int, dense: bool) -> tuple[int, int]:
        """Subjects and attributes: two facts at least, more as there is room."""
        room = length // (45 if dense else 70)
        sides = [(a, b) for a in range(1, 6) for b in range(1, 6) if 2 <= a * b <= max(2, room)]
        return self.rng.choice([s for s in sides if 2 * s[0] * s[1] >= min(room, 20)])

    def _told(self, known, source, mix, dense):
        """User turns that state the facts, and the facts as they stand in the end."""
        rng, turns, told = self.rng, [], {}
        queue = list(known)
        while queue:
            group, queue = queue[: (n := rng.choice([2, 3, 4] if dense else [1, 1, 1, 2, 3]))], queue[n:]
            for f in group:
                told[f.subject, f.attribute] = f
            turns.append(self._user_turn(" ".join(facts.tell(rng, f) for f in group), prose=0.0 if dense else 0.5))
        for f in list(told.values()):
            if rng.random() < mix.corrections / 4:
                new = facts.Fact(f.subject, f.attribute, source.value())
                told[f.subject, f.attribute] = new
                turns.append(self._user_turn(facts.correct(rng, new), prose=0.2))
        return turns, list(told.values())

    def _user_turn(self, text: str, prose: float) -> tuple[list[int], list[int]]:
        """A stated turn with its acknowledgement; marks score the acknowledgement."""
        rng, ids = self.rng, self.encode(text)
        if rng.random() < prose:
            ids = self._prose(rng.randint(2, 30)) + self.encode(" " + text)
            if rng.random() < 0.5:
                ids += self._prose(rng.randint(2, 30))
        role = SYSTEM if rng.random() < 0.08 else USER
        turn = [self.specials[role], *ids, self.specials[END]]
        if role == SYSTEM or rng.random() < 0.1:  # system turns and appended context get no reply
            return turn, [0] * len(turn)
        return turn + self.noted, [0] * (len(turn) + 1) + [LEAD] * (len(self.noted) - 1)

    def _questions(self, told, source, mix, most):
        """Questions with their answers, each fact once before any is asked for again."""
        rng, out = self.rng, []
        order = [f for _ in range(2) for f in rng.sample(told, len(told))]
        for f in order[: min(most, len(told) + rng.choice([0, 0, 0, 2]))]:
            question, (lead, value) = facts.ask(rng, f), facts.answer(f)
            if rng.random() < mix.unknown:
                missing = facts.Fact(*self._never_stated(told, source), "")
                question, lead, value = facts.ask(rng, missing), "", facts.UNKNOWN
            asked = [self.specials[USER], *self.encode(question), self.specials[END], self.specials[ASSISTANT]]
            first, rest = self.encode(lead), self.encode(value) + [self.specials[END]]
            marks = [0] * len(asked) + [LEAD] * len(first) + [FIRST] + [VALUE] * (len(rest) - 1)
            out.append((asked + first + rest, marks))
        return out

    def _never_stated(self, told, source) -> tuple[str, str]:
        rng, stated = self.rng, {(f.subject, f.attribute) for f in told}
        pairs = [(a.subject, b.attribute) for a in told for b in told if (a.subject, b.attribute) not in stated]
        if pairs and rng.random() < 0.5:
            return rng.choice(pairs)
        return source.name(), source.attribute()

    def _spread(self, turns, questions, spare):
        """Prose turns of `spare` tokens in all, put at random before, between and after the statements."""
        rng, items, least = self.rng, turns + questions, len(self.noted) + 10
        cuts = sorted(rng.randint(0, spare) for _ in range(rng.choice([0, 0, 1, 2, len(turns)])))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, spare], strict=True)]
        short = sum(s for s in sizes if s < least)
        sizes = [s for s in sizes if s >= least]
        if short >= least:
            sizes.append(short)
        elif sizes:
            sizes[0] += short
        for size in sizes:
            items.insert(rng.randint(0, len(turns)), self._prose_turn(size))
        return items

    def _prose_turn(self, size: int) -> tuple[list[int], list[int]]:
        ids = [self.specials[USER], *self._prose(size - len(self.noted) - 2), self.specials[END]]
        return ids + self.noted, [0] * (len(ids) + 1) + [LEAD] * (len(self.noted) - 1)

    def _prose(self, count: int) -> list[int]:
        ids: list[int] = []
        while len(ids) < count:
            ids += self.rng.choice(self.prose)
        return ids[:count]
