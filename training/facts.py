"""Generated facts: who has what, told in several phrasings and asked for in several more.

A fact is (subject, attribute, value). Values are drawn without regard to the attribute, and a world
crosses its subjects with its attributes, so that neither the value's type, nor the subject alone, nor
the attribute alone, nor recency answers a question. Every name, attribute and value belongs to the
training half or the held-out half of its kind for good, by a hash of its text.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from training.corpus import words

ME = "\0me"
BARE = "\0bare"

_ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t tr v w y z th sl".split()
_VOWELS = "a e i o u ai ea io ou ee au".split()
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "nd", "rk", "x", "v", "th", "ck"]
_FIRST = """Alice Bob Carol Dave Erin Frank Grace Heidi Ivan Judy Mallory Niaj Olivia Peggy Rupert Sybil Trent
Victor Walter Anna Ben Clara David Emma Felix Greta Hugo Ines Jack Kira Liam Mia Noah Oscar Paula Quinn Rosa Sam
Tina Uma Vera Will Xenia Yara Zoe Maria Ahmed Chen Priya Yuki Omar Lena Marco Nadia Pavel Sofia Tom Leo Eva Max
Nina Paul Ruth Jonas Laura Peter Sarah Simon Julia Martin Helen Daniel Lucas Elena Thomas Karl Irene""".split()
_THINGS = """project server river ship team book house room device robot station village garden engine temple
company school bridge castle island cluster camera package planet horse dog cat car train museum lab""".split()
_ATTRIBUTES = """badge colour color city code password name size owner budget deadline price weight age height hobby
food drink animal number song tool street door key shelf drawer locker plan leader captain doctor teacher friend
sister brother mother father son daughter cousin neighbour boss partner language title rank role team project ticket
flight seat train bus gate platform hotel room floor building office desk phone address email username nickname
birthday birthplace country region village river mountain island language flag motto mascot logo brand model engine
version port host server database table index branch tag commit license format color shape material texture flavour
smell sound symbol letter digit score grade level stage phase status state mood goal target limit rate ratio speed
distance length width depth volume capacity temperature pressure voltage current frequency channel signal token secret
pin passphrase car bike boat plane horse dog cat bird fish tree flower fruit vegetable dessert soup cheese bread book
film game sport instrument band artist painter writer actor dancer club school course subject topic theme chapter page
section verdict answer result finding theory method sample sensor camera lens battery cable screen keyboard mouse
printer router""".split()
_ADJECTIVES = """favourite favorite spare second first last main old new secret current next preferred backup private
public morning evening winter summer lucky usual final internal official""".split()
_WORDS = """red orange yellow green blue violet teal amber ivory scarlet crimson indigo silver golden copper bronze
black white grey pink purple brown falcon eagle otter badger lynx heron raven sparrow tiger walrus dolphin beetle
hornet cedar maple willow birch oak pine elm ash lotus orchid tulip rose lily daisy clover basil mint sage thyme
pepper saffron ginger coffee tea cocoa lemon mango papaya peach cherry plum apple pear grape melon bread cheese honey
butter pasta rice soup noodles Paris London Berlin Madrid Lisbon Oslo Vienna Prague Dublin Cairo Lima Quito Tokyo Kyoto
Delhi Hanoi Jakarta Sydney Toronto Chicago Boston Denver Austin Seattle Monday Tuesday Wednesday Thursday Friday
Saturday Sunday January March April June July August October December chess tennis hockey rowing sailing fencing
juggling pottery painting piano violin cello guitar flute harp trumpet drum granite marble basalt quartz topaz opal
ruby jade pearl onyx flint cotton linen silk wool velvet leather hammer anvil lantern compass anchor ladder bucket
basket kettle mirror candle pillow carpet python rust java kotlin swift scala haskell lisp perl ruby alpha beta gamma
delta sigma omega apollo zephyr phoenix dragon griffin unicorn comet nebula quasar pulsar meteor galaxy Saturn Jupiter
Mercury Venus Neptune""".split()


def held_out(text: str) -> bool:
    """True for the fifth of all names, attributes and values that training never uses."""
    return zlib.crc32(text.lower().encode()) % 5 == 0


@dataclass(frozen=True)
class Fact:
    subject: str
    attribute: str
    value: str


@dataclass(frozen=True)
class Source:
    """Draws words from one half of the split."""

    rng: Random
    test: bool = False

    def pick(self, choices: Sequence[str]) -> str:
        while True:
            word = self.rng.choice(choices)
            if held_out(word) == self.test:
                return word

    def _fresh(self, make) -> str:
        while True:
            word = make()
            if held_out(word) == self.test:
                return word

    def invented(self, syllables: tuple[int, int] = (2, 3)) -> str:
        rng = self.rng

        def make() -> str:
            parts = []
            for _ in range(rng.randint(*syllables)):
                parts.append(rng.choice(_ONSETS) + rng.choice(_VOWELS))
            return "".join(parts) + rng.choice(_CODAS)

        return self._fresh(make)

    def word(self) -> str:
        """Any word of the documentation: few kinds of words would be learnt by heart instead of copied."""
        return self.pick(words())

    def name(self) -> str:
        if self.rng.random() < 0.35:
            return self.word().capitalize()
        roll = self.rng.random()
        if roll < 0.35:
            return self.pick(_FIRST)
        if roll < 0.65:
            return self.invented().capitalize()
        if roll < 0.8:
            return f"{self.pick(_FIRST)} {self.invented().capitalize()}"
        if roll < 0.93:
            return f"the {self.rng.choice(_THINGS)} {self.invented().capitalize()}"
        return f"{self.rng.choice(_THINGS)} {self.rng.randint(2, 99)}"

    def attribute(self) -> str:
        if self.rng.random() < 0.5:
            return self.word() if self.rng.random() < 0.7 else f"{self.word()} {self.word()}"
        roll = self.rng.random()
        if roll < 0.6:
            return self.pick(_ATTRIBUTES)
        if roll < 0.85:
            return f"{self.rng.choice(_ADJECTIVES)} {self.pick(_ATTRIBUTES)}"
        if roll < 0.93:
            return f"{self.pick(_ATTRIBUTES)} {self.rng.choice(['name', 'number', 'code', 'colour', 'type', 'plan'])}"
        return self.invented()

    def value(self) -> str:
        if self.rng.random() < 0.4:
            return self.word()
        rng, roll = self.rng, self.rng.random()
        if roll < 0.4:
            return self.pick(_WORDS)
        if roll < 0.55:
            return self._fresh(lambda: str(rng.randint(2, 10 ** rng.randint(1, 5))))
        if roll < 0.65:
            return f"{self.pick(_WORDS)}-{rng.randint(1, 99)}"
        if roll < 0.73:
            return self._fresh(
                lambda: "".join(rng.choice("ABCDEFGHKLMNPQRSTUVWXYZ0123456789") for _ in range(rng.randint(3, 5)))
            )
        if roll < 0.83:
            return self.invented()
        if roll < 0.91:
            return self.invented().capitalize()
        return f"{self.pick(_WORDS)} {self.pick(_WORDS)}"


def world(source: Source, subjects: int, attributes: int, keep: float = 0.8) -> list[Fact]:
    """A grid of facts, `keep` of its cells filled, values all different, in random order."""
    rng = source.rng
    people: list[str] = []
    while len(people) < subjects:
        roll = rng.random()
        name = ME if roll < 0.08 else BARE if roll < 0.16 else source.name()
        if all(name not in p and p not in name for p in people):
            people.append(name)
    traits: list[str] = []
    while len(traits) < attributes:
        trait = source.attribute()
        if all(trait not in t and t not in trait for t in traits):
            traits.append(trait)
    values: list[str] = []
    while len(values) < subjects * attributes:
        value = source.value()
        if all(value.lower() != v.lower() for v in values):
            values.append(value)
    grid = [Fact(p, t, values[i * attributes + j]) for i, p in enumerate(people) for j, t in enumerate(traits)]
    rng.shuffle(grid)
    return grid[: max(1, round(keep * len(grid)))]


_TELL = [
    "{S}'s {a} is {v}.", "{S}'s {a} is {v}.", "The {a} of {s} is {v}.", "The {a} of {s} is {v}.",
    "For {s}, the {a} is {v}.", "{S} has the {a} {v}.", "Remember that {s}'s {a} is {v}.",
    "Please note: the {a} of {s} is {v}.", "By the way, {s}'s {a} is {v}.", "{S}'s {a} = {v}", "{S}'s {a}: {v}",
]  # fmt: skip
_TELL_ME = [
    "My {a} is {v}.",
    "My {a} is {v}.",
    "Remember that my {a} is {v}.",
    "By the way, my {a} is {v}.",
    "For me, the {a} is {v}.",
]
_TELL_BARE = [
    "The {a} is {v}.",
    "The {a} is {v}.",
    "Remember that the {a} is {v}.",
    "Please note: the {a} is {v}.",
    "{A}: {v}",
]
_CORRECT = [
    "No, {s}'s {a} is {v}.",
    "Correction: {s}'s {a} is {v}.",
    "Actually, {s}'s {a} is {v}.",
    "{S}'s {a} is now {v}.",
]
_CORRECT_ME = ["No, my {a} is {v}.", "Actually, my {a} is {v}.", "My {a} is now {v}."]
_CORRECT_BARE = ["No, the {a} is {v}.", "Correction: the {a} is {v}.", "The {a} is now {v}."]
_ASK = [
    "What is the {a} of {s}?", "What is {s}'s {a}?", "What is {s}'s {a}?", "Tell me {s}'s {a}.",
    "Tell me the {a} of {s}.", "Which {a} does {s} have?", "Do you remember the {a} of {s}?",
    "Remind me: what is {s}'s {a}?", "{S}'s {a}?", "And the {a} of {s}?", "I forgot {s}'s {a}. What is it?",
]  # fmt: skip
_ASK_ME = [
    "What is my {a}?",
    "What is my {a}?",
    "Tell me my {a}.",
    "Do you remember my {a}?",
    "Remind me: what is my {a}?",
    "What's my {a}?",
]
_ASK_BARE = ["What is the {a}?", "What is the {a}?", "Tell me the {a}.", "Do you remember the {a}?", "And the {a}?"]

UNKNOWN = "I don't know."
NOTED = "Noted."


def _fill(template: str, fact: Fact) -> str:
    s = fact.subject
    return template.format(s=s, S=s[:1].upper() + s[1:], a=fact.attribute, A=fact.attribute.capitalize(), v=fact.value)


def _choose(rng: Random, fact: Fact, plain: list[str], me: list[str], bare: list[str]) -> str:
    return _fill(rng.choice(me if fact.subject == ME else bare if fact.subject == BARE else plain), fact)


def tell(rng: Random, fact: Fact) -> str:
    return _choose(rng, fact, _TELL, _TELL_ME, _TELL_BARE)


def correct(rng: Random, fact: Fact) -> str:
    return _choose(rng, fact, _CORRECT, _CORRECT_ME, _CORRECT_BARE)


def ask(rng: Random, fact: Fact) -> str:
    return _choose(rng, fact, _ASK, _ASK_ME, _ASK_BARE)


def answer(fact: Fact) -> tuple[str, str]:
    """The reply as (lead-in, value and full stop). The lead-in names subject and attribute again."""
    lead = {ME: "Your {a} is", BARE: "The {a} is"}.get(fact.subject, "{S}'s {a} is")
    return _fill(lead, fact), f" {fact.value}."
