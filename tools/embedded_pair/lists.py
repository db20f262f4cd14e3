"""Families about lists of words and numbers: sort, count, reverse, filter, repeat, number, change case.

Each function takes a random.Random and returns (prompt, answer); the answer is the one right text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.embedded_pair.lexicon import ANIMALS, CATEGORIES, COLOURS, FRUITS, THINGS, TOOLS, WORDS

if TYPE_CHECKING:
    from random import Random


def _joined(items: list[str]) -> str:
    return ", ".join(items)


def sort_numbers(rng: Random) -> tuple[str, str]:
    """Three to six different numbers below 100, either way."""
    numbers = rng.sample(range(1, 100), rng.randint(3, 6))
    down = rng.random() < 0.5
    order = rng.choice(
        ("descending order", "order from largest to smallest")
        if down
        else ("ascending order", "order from smallest to largest")
    )
    prompt = rng.choice(("Sort these numbers in {o}: {x}", "Put the numbers {x} in {o}.", "Arrange in {o}: {x}"))
    ordered = [str(number) for number in sorted(numbers, reverse=down)]
    listed = _joined([str(number) for number in numbers])
    return prompt.format(o=order, x=listed), f"The sorted numbers are: {_joined(ordered)}."


def sort_words(rng: Random) -> tuple[str, str]:
    """Four to six words by the alphabet."""
    words = rng.sample(WORDS, rng.randint(4, 6))
    prompt = rng.choice(
        (
            "Sort these words alphabetically: {x}",
            "Put the words {x} in alphabetical order.",
            "Alphabetise this list: {x}",
        )
    )
    return prompt.format(x=_joined(words)), f"The words in alphabetical order are: {_joined(sorted(words))}."


def count_items(rng: Random) -> tuple[str, str]:
    """How often one word occurs in a list of up to twelve."""
    kinds = rng.sample(WORDS, rng.randint(2, 3))
    items = [rng.choice(kinds) for _ in range(rng.randint(4, 12))]
    wanted = rng.choice(items)
    times = items.count(wanted)
    prompt = rng.choice(
        (
            "How many times does {w} appear in this list: {x}?",
            "Count how often {w} occurs: {x}",
            "Count the word {w} in the following list: {x}",
        )
    )
    answer = f"The word {wanted} appears {times} {'time' if times == 1 else 'times'} in the list."
    return prompt.format(w=wanted, x=_joined(items)), answer


def reverse_list(rng: Random) -> tuple[str, str]:
    """Four to six words, last first."""
    words = rng.sample(WORDS, rng.randint(4, 6))
    prompt = rng.choice(
        (
            "Reverse the order of this list: {x}",
            "Write this list backwards: {x}",
            "Give the words {x} in reverse order.",
        )
    )
    return prompt.format(x=_joined(words)), f"The words in reverse order are: {_joined(words[::-1])}."


def letter_case(rng: Random) -> tuple[str, str]:
    """Two to four words into upper, lower or title case."""
    text = " ".join(rng.sample(WORDS, rng.randint(2, 4)))
    wanted = rng.choice(("upper", "lower", "title"))
    given = rng.choice([case for case in ("upper", "lower", "title") if case != wanted])
    cased = {"upper": text.upper(), "lower": text, "title": text.title()}
    names = {
        "upper": ("upper case", "capital letters"),
        "lower": ("lower case", "small letters"),
        "title": ("title case", "words that start with a capital"),
    }
    prompt = rng.choice(("Write in {c}: {x}", "Convert to {c}: {x}", "Change this text to {c}: {x}"))
    return prompt.format(c=rng.choice(names[wanted]), x=cased[given]), cased[wanted]


def filter_list(rng: Random) -> tuple[str, str]:
    """The numbers above or below a bound, or the words of one kind, in the order given."""
    if rng.random() < 0.4:
        numbers = rng.sample(range(1, 100), rng.randint(4, 8))
        bound = rng.choice(sorted(numbers)[1:-1]) + rng.choice((-1, 1))
        above = rng.random() < 0.5
        kept = [str(number) for number in numbers if (number > bound if above else number < bound)]
        side = rng.choice(("greater than", "above") if above else ("less than", "below"))
        listed = _joined([str(number) for number in numbers])
        prompt = rng.choice(("Keep only the numbers {s} {b}: {x}", "Which of these numbers are {s} {b}? {x}"))
        if not kept:
            return prompt.format(s=side, b=bound, x=listed), "None of the numbers remain."
        return prompt.format(s=side, b=bound, x=listed), f"The numbers that remain are: {_joined(kept)}."
    kind = rng.choice(sorted(CATEGORIES))
    wanted = rng.sample(CATEGORIES[kind], rng.randint(1, 4))
    others = rng.sample([word for word in WORDS if word not in CATEGORIES[kind]], rng.randint(1, 4))
    items = wanted + others
    rng.shuffle(items)
    kept = [item for item in items if item in wanted]
    prompt = rng.choice(
        ("List only the {k}: {x}", "Which of these are {k}? {x}", "Keep the {k} and drop the rest: {x}")
    )
    return prompt.format(k=kind, x=_joined(items)), f"The {kind} in the list are: {_joined(kept)}."


def repeat_list(rng: Random) -> tuple[str, str]:
    """A coloured thing said three to nine times."""
    phrase = f"{rng.choice(COLOURS)} {rng.choice(FRUITS + ANIMALS + TOOLS + THINGS)}"
    times = rng.randint(3, 9)
    separator, how = rng.choice(((", ", "separated by commas"), ("\n", "one per line"), (" - ", "separated by dashes")))
    prompt = rng.choice(
        ("Repeat the words {p} {n} times, {h}.", "Write {p} {n} times, {h}.", "Say {p} {n} times, {h}.")
    )
    return prompt.format(p=phrase, n=times, h=how), separator.join([phrase] * times)


def numbered_list(rng: Random) -> tuple[str, str]:
    """Four to seven words as numbered or dashed lines."""
    words = rng.sample(WORDS, rng.randint(4, 7))
    numbered = rng.random() < 0.7
    style = "numbered list" if numbered else "list with dashes"
    lines = [f"{number}. {word}" if numbered else f"- {word}" for number, word in enumerate(words, 1)]
    prompt = rng.choice(("Turn this into a {s}: {x}", "Write {x} as a {s}.", "Make a {s} of these words: {x}"))
    return prompt.format(s=style, x=_joined(words)), "\n".join(lines)
