"""Texts of generated facts with a question about one of them."""

import random
from dataclasses import dataclass

FIRST = ("Mira Anton Selma Jonas Petra Viktor Hanna Oskar Lena Emil Clara Theo "
         "Ines Bruno Greta Felix Marta Hugo Nora Simon").split()
LAST = ("Holm Varga Quist Arden Lindt Moreau Keller Sorley Brandt Osei Pryor "
        "Tallis Wexler Ibsen Corvo Danner Ekman Fauré Gomez Hale").split()
TOWNS = ("Tarnby Ellery Osmark Vellin Corrado Brixham Halden Marlow Sorrento "
         "Ystad Pinehill Redford Larkspur Dunmore Kestrel Ashby").split()
TRADES = ("baker carpenter tailor gardener printer miller potter weaver "
          "painter fisher barber farmer butcher shepherd").split()
PETS = "parrot goat donkey rabbit tortoise falcon pony hedgehog".split()
COLOURS = "red blue green yellow white black purple orange".split()


@dataclass
class Case:
    text: str
    question: str
    answer: str


def facts(pick, name):
    """(sentence, question, answer) of one person."""
    town, trade, pet, colour = map(pick.choice, (TOWNS, TRADES, PETS, COLOURS))
    return pick.choice([
        (f"{name} lives in the town of {town}.",
         f"In which town does {name} live?", town),
        (f"{name} works as a {trade}.", f"What does {name} work as?", trade),
        (f"{name} keeps a {pet} in the garden.",
         f"Which animal does {name} keep?", pet),
        (f"The house of {name} is painted {colour}.",
         f"In which colour is the house of {name} painted?", colour),
    ])


def case(seed):
    """About 1,000 to 3,000 tokens; always the same for a seed."""
    pick = random.Random(seed)
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    pick.shuffle(names)
    people = [facts(pick, name) for name in names[:pick.randint(85, 250)]]
    sentences = [sentence for sentence, _, _ in people]
    paragraphs = [" ".join(sentences[i:i + 8])
                  for i in range(0, len(sentences), 8)]
    _, question, answer = pick.choice(people)
    return Case("\n\n".join(paragraphs), question, answer)
