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

LEAD, VALUE = 1, 2  # what a scored position is: restating the question, or the remembered value


@dataclass
class Mix:
    """What share of the samples is what; raised step by step as training goes on."""

    noise: float = 0.5
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
        """A random run of tokens repeated until the sample is full: what only induction predicts."""
        rng, vocabulary = self.rng, self.tokenizer.get_vocab_size()
        period = rng.randint(8, max(9, length // 2))
        run = [rng.randrange(5, vocabulary) for _ in range(period)]
        ids = (run * (length // period + 1))[:length]
        return ids, [0] * period + [LEAD] * (length - period)

    def conversation(self, length: int, mix: Mix) -> tuple[list[int], list[int]]:
        rng = self.rng
        source = facts.Source(rng, self.test)
        shape = [(2, 1), (1, 2), (2, 2)] if length < 100 else [(2, 2), (3, 2), (2, 3), (3, 3)] if length < 300 else [(3, 3), (4, 3), (3, 4), (5, 4), (4, 5)]
        known = facts.world(source, *rng.choice(shape), keep=rng.choice([0.6, 0.8, 1.0]))
        turns, told = self._told(known, source, mix)
        questions = self._questions(told, source, mix, length)
        cost = 1 + sum(len(t) for t, _ in turns) + sum(len(t) for t, _ in questions)
        while cost > length and len(questions) > 1:
            cost -= len(questions.pop()[0])
        if cost > length:
            return self.conversation(length, mix)
        items = self._spread(turns, questions, length - cost)
        ids, marks = [self.specials[BOS]], [0]
        for t, m in items:
            ids += t
            marks += m
        ids, marks = ids[:length], marks[:length]
        pad = length - len(ids)
        return ids + [self.specials[END]] * pad, marks + [0] * pad

    def _told(self, known, source, mix):
        """User turns that state the facts, and the facts as they stand in the end."""
        rng, turns, told = self.rng, [], {}
        queue = list(known)
        while queue:
            group, queue = queue[: (n := rng.choice([1, 1, 1, 2, 3]))], queue[n:]
            lines = [facts.tell(rng, f) for f in group]
            for f in group:
                told[f.subject, f.attribute] = f
            turns.append(self._user_turn(" ".join(lines)))
        for f in list(told.values()):
            if rng.random() < mix.corrections / 4:
                new = facts.Fact(f.subject, f.attribute, source.value())
                told[f.subject, f.attribute] = new
                turns.append(self._user_turn(facts.correct(rng, new)))
        return turns, list(told.values())

    def _user_turn(self, text: str) -> tuple[list[int], list[int]]:
        """A stated turn with its acknowledgement; marks score the acknowledgement."""
        rng, ids = self.rng, self.encode(text)
        if rng.random() < 0.5:  # embedded in prose of one to thirty words
            ids = self._prose(rng.randint(2, 30)) + self.encode(" " + text)
            if rng.random() < 0.5:
                ids += self._prose(rng.randint(2, 30))
        role = SYSTEM if rng.random() < 0.08 else USER
        turn = [self.specials[role], *ids, self.specials[END]]
        if role == SYSTEM or rng.random() < 0.1:  # system turns and appended context get no reply
            return turn, [0] * len(turn)
        return turn + self.noted, [0] * (len(turn) + 1) + [LEAD] * (len(self.noted) - 1)

    def _questions(self, told, source, mix, length):
        rng, out = self.rng, []
        chosen = rng.sample(told, min(len(told), 8))
        for f in chosen:
            value: tuple[str, str] = facts.answer(f)
            question = facts.ask(rng, f)
            if rng.random() < mix.unknown:
                missing = facts.Fact(*self._never_stated(told, source), "")
                question, value = facts.ask(rng, missing), ("", facts.UNKNOWN)
            asked = [self.specials[USER], *self.encode(question), self.specials[END], self.specials[ASSISTANT]]
            lead, rest = self.encode(value[0]), self.encode(value[1]) + [self.specials[END]]
            marks = [0] * len(asked) + [LEAD] * len(lead) + [VALUE] * len(rest)
            out.append((asked + lead + rest, marks))
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
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, spare])]
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
