"""The closed world that every task speaks about: words, people, places and units.

The lists are small on purpose: with a vocabulary of 512 entries most words take two or three tokens, of which only
the first is a real choice. That is what gives a one-layer drafter something to predict.
"""

from __future__ import annotations

FRUITS = (
    "apple", "apricot", "banana", "cherry", "coconut", "grape", "lemon", "mango", "melon", "orange",
    "papaya", "peach", "pear", "pineapple", "plum", "raspberry", "strawberry", "tomato",
)  # fmt: skip
ANIMALS = (
    "antelope", "beaver", "camel", "dolphin", "elephant", "falcon", "giraffe", "hamster", "jaguar", "kangaroo",
    "leopard", "monkey", "octopus", "panther", "rabbit", "squirrel", "turtle", "zebra",
)  # fmt: skip
TOOLS = (
    "anvil", "bucket", "chisel", "compass", "drill", "hammer", "ladder", "needle", "pliers", "ruler",
    "scissors", "shovel", "spanner", "wrench",
)  # fmt: skip
COLOURS = (
    "black", "blue", "brown", "crimson", "golden", "green", "indigo", "purple", "scarlet", "silver",
    "turquoise", "violet", "white", "yellow",
)  # fmt: skip
THINGS = (
    "bridge", "candle", "forest", "garden", "harbour", "island", "lantern", "meadow", "mountain", "ocean",
    "painting", "river", "station", "thunder", "umbrella", "valley", "window", "winter",
)  # fmt: skip

CATEGORIES = {"fruits": FRUITS, "animals": ANIMALS, "tools": TOOLS, "colours": COLOURS}
WORDS = FRUITS + ANIMALS + TOOLS + COLOURS + THINGS
COUNTABLES = ("apples", "books", "candles", "coins", "lemons", "marbles", "oranges", "pencils", "stamps", "tickets")

NAMES = (
    "Amara", "Benjamin", "Camila", "Dmitri", "Eleanor", "Fatima", "Gabriel", "Hannah", "Ibrahim", "Jasmine",
    "Katarina", "Leonardo", "Matilda", "Nikolai", "Olivia", "Patricia", "Rosalind", "Sebastian", "Theodore", "Valentina",
)  # fmt: skip
CITIES = (
    "Amsterdam", "Barcelona", "Copenhagen", "Dublin", "Edinburgh", "Florence", "Geneva", "Helsinki", "Istanbul", "Jakarta",
    "Kathmandu", "Lisbon", "Montreal", "Nairobi", "Oslo", "Prague", "Reykjavik", "Singapore", "Tokyo", "Vienna",
)  # fmt: skip
JOBS = (
    "accountant", "architect", "baker", "carpenter", "dentist", "electrician", "farmer", "gardener", "journalist",
    "librarian", "mechanic", "musician", "nurse", "pharmacist", "photographer", "plumber", "teacher", "translator",
)  # fmt: skip
HOBBIES = (
    "astronomy", "badminton", "calligraphy", "chess", "cycling", "dancing", "fencing", "knitting", "origami",
    "photography", "pottery", "sailing", "swimming", "volleyball",
)  # fmt: skip
DEPARTMENTS = ("accounting", "design", "engineering", "logistics", "marketing", "operations", "research", "support")
LANGUAGES = (
    "Arabic",
    "Danish",
    "English",
    "French",
    "German",
    "Japanese",
    "Korean",
    "Portuguese",
    "Spanish",
    "Turkish",
)
STATUSES = ("approved", "cancelled", "delivered", "pending", "rejected", "shipped")

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

# (unit, its plural, smaller unit's plural, how many of the smaller make one)
UNITS = (
    ("kilometre", "kilometres", "metres", 1000),
    ("metre", "metres", "centimetres", 100),
    ("centimetre", "centimetres", "millimetres", 10),
    ("kilogram", "kilograms", "grams", 1000),
    ("litre", "litres", "millilitres", 1000),
    ("hour", "hours", "minutes", 60),
    ("minute", "minutes", "seconds", 60),
    ("day", "days", "hours", 24),
    ("week", "weeks", "days", 7),
    ("year", "years", "months", 12),
    ("dozen", "dozen", "pieces", 12),
    ("foot", "feet", "inches", 12),
    ("euro", "euros", "cents", 100),
)
