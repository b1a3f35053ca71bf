"""Makes long test documents with facts in them: the haystack, the needles and a question.

The same arguments give the same document on every machine and Python version: the generator
below is our own, because random.Random promises that only for random().
"""

import dataclasses
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import document_words as words  # noqa: E402

# Characters per token of the demo model's tokenizer, measured over 40 documents of 8,000 tokens.
FILLER_CHARS_PER_TOKEN = 3.70
FACT_TOKENS = 22  # a fact's sentence, on average: its digits are one token each
QUESTION_TOKENS = 18  # and the chat template's


@dataclasses.dataclass(frozen=True)
class Fact:
    key: str
    value: str
    sentence: str
    question: str


@dataclasses.dataclass(frozen=True)
class Document:
    document: str
    question: str
    prompt: str  # what a user sends: document, empty line, question
    answer: str
    question_index: int  # of the asked fact, in order of appearance
    facts: tuple


class Generator:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed % 2**64

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    def below(self, count):
        return self.next() * count >> 64

    def choice(self, items):
        return items[self.below(len(items))]

    def sample(self, items, count):
        """`count` different items in random order."""
        items = list(items)
        for i in range(count):
            j = i + self.below(len(items) - i)
            items[i], items[j] = items[j], items[i]
        return items[:count]


def filler_sentence(generator, voice):
    def fill(slot):
        name = slot.group(1)
        word = generator.choice(words.WORDS[name.lower()])
        return word.capitalize() if name[0].isupper() else word

    sentence = re.sub(r"\{(\w+)\}", fill, generator.choice(voice))
    return re.sub(r"\ban? ([aeiou])", r"an \1", re.sub(r"\ban ([^aeiou])", r"a \1", sentence))


def make_facts(generator, count):
    pairs = [f"{a}-{b}" for a in words.KEY_FIRST for b in words.KEY_SECOND]
    facts = []
    for key in generator.sample(pairs, count):
        value = str(1_000_000 + generator.below(9_000_000))
        sentence, question = generator.choice(words.FACT_FORMS)
        facts.append(Fact(key, value, sentence.format(key=key, value=value),
                          question.format(key=key)))
    return facts


def make_document(tokens=8000, facts=16, seed=1, question_index=None):
    """A document of about `tokens` prompt tokens. Without a question_index the seed chooses one."""
    if facts < 1 or facts > len(words.KEY_FIRST) * len(words.KEY_SECOND):
        raise ValueError(f"facts must be 1 or more and at most "
                         f"{len(words.KEY_FIRST) * len(words.KEY_SECOND)}, got {facts}")
    if question_index is not None and not 0 <= question_index < facts:
        raise ValueError(f"question index must be in [0, {facts}), got {question_index}")
    smallest = QUESTION_TOKENS + FACT_TOKENS * facts
    if tokens < smallest:
        raise ValueError(f"{facts} facts and a question need about {smallest} tokens, got {tokens}")

    generator = Generator(seed)
    needles = make_facts(generator, facts)
    asked = needles[generator.below(facts) if question_index is None else question_index]

    budget = (tokens - smallest) * FILLER_CHARS_PER_TOKEN
    sentences = []
    while budget > 0:
        # A few sentences of one voice, as in a text that changes its subject.
        voice = generator.choice(words.VOICES)
        for _ in range(3 + generator.below(6)):
            sentence = filler_sentence(generator, voice)
            sentences.append(sentence)
            budget -= len(sentence) + 1
            if budget <= 0:
                break
    places = sorted(generator.below(len(sentences) + 1) for _ in needles)
    for place, fact in reversed(list(zip(places, needles))):
        sentences.insert(place, fact.sentence)
    text = " ".join(sentences)
    return Document(document=text, question=asked.question, prompt=f"{text}\n\n{asked.question}",
                    answer=asked.value, question_index=needles.index(asked), facts=tuple(needles))
