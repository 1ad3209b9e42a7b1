"""Long prompts with a fact hidden in them, the same for the same seed.

Why generated: a repeated paragraph compresses too easily, since any of its
copies will do, and a text from the world may be known to the model. Here
hardly a sentence occurs twice, none contains a digit, and the one fact, a
pass key, cannot be guessed.
"""

import random
import re
from dataclasses import dataclass

INTRO = (
    "There is an important piece of information hidden inside a lot of "
    "irrelevant text. Find it and memorize it."
)
QUESTION = "\n\nWhat is the pass key?\nThe pass key is "

WORDS = {
    "name": """Anna Bertram Clara Daniel Edith Felix Greta Henry Irene Jonas
        Karin Leopold Martha Nils Olivia Peter Rosa Simon Thea Viktor""",
    "role": """baker teacher gardener carpenter captain doctor librarian
        farmer tailor painter postman weaver miller surveyor potter clerk""",
    "place": """harbour market library orchard mill station bridge workshop
        meadow museum chapel bakery vineyard lighthouse courtyard village
        quarry theatre""",
    "thing": """ladder lantern basket clock map bell kettle wagon violin
        blanket wheelbarrow letter painting chair rope bottle compass""",
    "things": """apples boots candles feathers stones ribbons shells tools
        papers barrels onions bricks pears nails cups seeds shutters""",
    "adj": """old narrow quiet wooden bright heavy broken green distant
        gentle crooked empty dusty warm plain pale enormous forgotten""",
    "animal": """heron fox goat owl donkey cat swallow hedgehog sheepdog
        horse crow otter pigeon hare""",
    "season": "spring summer autumn winter",
    "part": "morning afternoon evening night",
    "weather": "rain wind fog frost snow sunshine thunder drizzle",
    "verb": """repaired painted carried sold borrowed measured cleaned
        described moved polished lost found weighed admired""",
    "went": "walked hurried wandered drove rode climbed crept ran",
    "feel": "patient cheerful tired curious nervous proud calm doubtful",
    "food": """soup bread cheese porridge cabbage honey trout pancakes
        dumplings mushrooms""",
    "count": "two three four five seven twelve twenty several",
    "craft": """weaving bookbinding glassmaking beekeeping masonry
        navigation gardening printing woodcarving astronomy""",
    "adverb": "slowly carefully often rarely quietly suddenly usually soon",
    "to": "to past behind towards around",
}

# Each rule is a list of ways to say it; {kind} is another rule or a word.
RULES = {
    "sentence": """
        {clause}.
        {clause}.
        {clause} {when}.
        {when}, {clause}.
        {clause}, and {clause}.
        {clause}, but {clause}.
        {clause}, although {clause}.
        Because {clause}, {clause}.
        While {clause}, {clause}.
        {fact}.
        {fact}, or so {who} thought.
        It is said that {fact}.
        "{fact}," said {name}.
        {name} asked whether {clause}.
        Has anyone told {who} that {clause}?
        There were {count} {things} {where}.
        {name} laughed.
        """,
    "clause": """
        {who} {adverb} {verb} {what}
        {who} {verb} {what} and {went} {to} the {place}
        {who} {went} {to} the {place}
        {who} felt {feel}
        {who} wrote about {craft} and {weather}
        {who} was fond of {food}
        {who} left {what} {where}
        {who} needed {count} {things}
        {who} talked to {who} about {what}
        the {animal} {went} {to} the {place}
        the {animal} slept {where}
        the {weather} stopped
        {what} lay {where}
        {what} could not be found
        nobody {verb} {what}
        """,
    "fact": """
        {food} tasted better than {food}
        the history of {craft} is longer than that of {craft}
        every {season} the {place} is full of {things}
        {weather} in {season} makes the {animal} {feel}
        a {adj} {thing} is worth more than {count} {things}
        the path from the {place} to the {place} is {adj}
        most people who study {craft} begin with {adj} {things}
        no {role} should trust the {weather}
        """,
    "who": """
        {name}
        {name}
        the {role}
        the {adj} {role}
        the {role} from the {place}
        {name} and the {role}
        """,
    "what": """
        the {thing}
        the {adj} {thing}
        {count} {things}
        the {adj} {things}
        the {thing} of the {role}
        """,
    "where": """
        near the {place}
        under the {adj} roof
        beside the {thing}
        between the {place} and the {place}
        in the kitchen
        """,
    "when": """
        in the {part}
        one {adj} {part}
        after the {weather}
        before {season} came
        long ago
        during the {weather}
        """,
}
GRAMMAR = {kind: words.split() for kind, words in WORDS.items()} | {
    kind: [line.strip() for line in lines.strip().split("\n")]
    for kind, lines in RULES.items()
}


@dataclass(frozen=True)
class Passkey:
    """A prompt that ends in the middle of its answer, and the answer."""

    text: str
    answer: str
    depth: float  # of the fact: 0 at the beginning, 1 at the end


def expand(rng, kind):
    pattern = rng.choice(GRAMMAR[kind])
    return re.sub(r"{(\w+)}", lambda m: expand(rng, m[1]), pattern)


def sentence(rng):
    text = expand(rng, "sentence")
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    # A capital at the beginning, also of quoted speech.
    return re.sub(r'^"?[a-z]|(?<= ")[a-z]', lambda m: m[0].upper(), text)


def paragraphs(rng, count_tokens, tokens):
    """Paragraphs of three to eight sentences, `tokens` long in all.

    Within the length of a sentence: each is counted as it will stand in the
    text, behind a space, and each paragraph with the line break before it.
    """
    result = []
    while tokens > 0:
        current = []
        tokens -= 1
        for _ in range(rng.randint(3, 8)):
            current.append(sentence(rng))
            tokens -= count_tokens(" " + current[-1])
            if tokens <= 0:
                break
        result.append(" ".join(current))
    return result


def passkey(seed, count_tokens, tokens):
    """A prompt of about `tokens` tokens, the key at a depth of the seed's.

    count_tokens: length of a text in tokens of the model.
    """
    rng = random.Random(seed)
    answer = f"{rng.randrange(10000, 100000)}"
    fact = f"The pass key is {answer}. Remember it."
    frame = count_tokens(f"{INTRO}\n{fact}{QUESTION}")
    parts = paragraphs(rng, count_tokens, tokens - frame)
    at = rng.randint(0, len(parts))
    depth = at / max(len(parts), 1)
    parts.insert(at, fact)
    return Passkey("\n".join([INTRO, *parts]) + QUESTION, answer, depth)
