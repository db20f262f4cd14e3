"""Families whose answer is worked out: arithmetic, units and dates.

Each function takes a random.Random and returns (prompt, answer); the answer is the one right text.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from tools.embedded_pair.lexicon import COUNTABLES, MONTHS, NAMES, UNITS

if TYPE_CHECKING:
    from random import Random


def addition(rng: Random) -> tuple[str, str]:
    """Two numbers below 200, bare or in a word problem."""
    a, b = rng.randint(1, 199), rng.randint(1, 199)
    if rng.random() < 0.5:
        name, things = rng.choice(NAMES), rng.choice(COUNTABLES)
        verb = rng.choice(("buys", "finds", "receives"))
        prompt = f"{name} has {a} {things} and {verb} {b} more. How many {things} does {name} have now?"
        return prompt, f"{name} has {a + b} {things} now."
    prompt = rng.choice(
        ("What is {a} + {b}?", "Add {a} and {b}.", "Calculate the sum of {a} and {b}.", "{a} plus {b} equals what?")
    )
    return prompt.format(a=a, b=b), f"The sum of the two numbers is {a + b}."


def subtraction(rng: Random) -> tuple[str, str]:
    """A number below 200 taken from a number that is at least as large."""
    small, large = sorted((rng.randint(1, 199), rng.randint(2, 199)))
    if rng.random() < 0.5:
        name, things = rng.choice(NAMES), rng.choice(COUNTABLES)
        verb = rng.choice(("gives away", "loses", "sells"))
        prompt = f"{name} has {large} {things} and {verb} {small} of them. How many {things} does {name} have left?"
        return prompt, f"{name} has {large - small} {things} left."
    prompt = rng.choice(
        ("What is {a} - {b}?", "Subtract {b} from {a}.", "Calculate {a} minus {b}.", "Take {b} from {a}.")
    )
    return prompt.format(a=large, b=small), f"The difference of the two numbers is {large - small}."


def multiplication(rng: Random) -> tuple[str, str]:
    """A factor up to 12 times a factor up to 30."""
    a, b = rng.randint(2, 12), rng.randint(2, 30)
    if rng.random() < 0.5:
        name, things = rng.choice(NAMES), rng.choice(COUNTABLES)
        prompt = f"{name} fills {a} boxes with {b} {things} each. How many {things} is that in all?"
        return prompt, f"{name} has {a * b} {things} in all."
    prompt = rng.choice(
        (
            "What is {a} x {b}?",
            "Multiply {a} by {b}.",
            "Calculate the product of {a} and {b}.",
            "{a} times {b} equals what?",
        )
    )
    return prompt.format(a=a, b=b), f"The product of the two numbers is {a * b}."


def units(rng: Random) -> tuple[str, str]:
    """A whole number of a unit in a smaller unit."""
    one, many, smaller, factor = rng.choice(UNITS)
    count = rng.randint(1, 30)
    unit = one if count == 1 else many
    prompt = rng.choice(
        (
            "Convert {q} to {s}.",
            "How many {s} are there in {q}?",
            "Express {q} in {s}.",
            "What is {q} in {s}?",
            "Change {q} into {s}, please.",
        )
    )
    quantity = f"{count} {unit}"
    return prompt.format(
        q=quantity, s=smaller
    ), f"{quantity} {'is' if count == 1 else 'are'} {count * factor} {smaller}."


def _spoken(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _written(day: date, style: str) -> str:
    return {
        "ISO": day.isoformat(),
        "day first": f"{day.day:02}/{day.month:02}/{day.year}",
        "month in words": _spoken(day),
        "American": f"{MONTHS[day.month - 1]} {day.day}, {day.year}",
    }[style]


_STYLE_REQUESTS = {
    "ISO": ("in ISO format", "as YYYY-MM-DD"),
    "day first": ("with slashes, day first", "as DD/MM/YYYY"),
    "month in words": ("with the month in words", "as day, month name, year"),
    "American": ("in American style", "as month name, day, year"),
}


def _random_date(rng: Random) -> date:
    return date(1990, 1, 1) + timedelta(days=rng.randrange(45 * 365))


def date_format(rng: Random) -> tuple[str, str]:
    """A date from one of four ways of writing into another."""
    day = _random_date(rng)
    source, wanted = rng.sample(sorted(_STYLE_REQUESTS), 2)
    prompt = rng.choice(
        ("Write the date {d} {how}.", "Rewrite {d} {how}.", "Please give {d} {how}.", "Format {d} {how}.")
    )
    how = rng.choice(_STYLE_REQUESTS[wanted])
    return prompt.format(d=_written(day, source), how=how), f"The date is {_written(day, wanted)}."


def date_shift(rng: Random) -> tuple[str, str]:
    """A date some days later or earlier, across the ends of months and years."""
    day, days = _random_date(rng), rng.randint(1, 20)
    later = rng.random() < 0.5
    prompt = rng.choice(
        (
            "What date is {n} {unit} {way} {d}?",
            "Give the date {n} {unit} {way} {d}.",
            "Which day is {n} {unit} {way} {d}?",
        )
    )
    shifted = day + timedelta(days=days if later else -days)
    way = "after" if later else "before"
    return prompt.format(
        n=days, unit="day" if days == 1 else "days", way=way, d=_spoken(day)
    ), f"The date is {_spoken(shifted)}."
