"""Which scores must the graders of texts give? Token F1 and exact match as SQuAD defines them, and GAIA's rule.

Both are written down here from their published descriptions, without a look at the Rust side:

* SQuAD (arXiv 1606.05250, and 1806.03822 for empty texts): a text is made lower case, the 32 punctuation characters of
  ASCII are taken out, the words a, an and the are taken out where they stand between word boundaries, white space is
  made single. Exact match compares what is left; F1 compares the bags of words. Without a word on either side F1 is 1
  when both sides have none, else 0.
* GAIA (arXiv 2311.12983 and the scorer of its leaderboard): where the truth is a number, the answer loses `$`, `%` and
  `,` and is read as one. Where the truth holds `,` or `;`, both are divided there; there must be as many elements, each
  compared as a number or as a text without white space, lower case. Any other truth is compared as a text without white
  space and ASCII punctuation, lower case.
  Two oddities of the scorer are not taken over, see `gaia_equal`.

    python3 make_graders.py        # rewrites graders.json beside this file; only the standard library is needed
"""

import json
import math
import random
import re
import string
from pathlib import Path

PUNCTUATION = frozenset(string.punctuation)


# ---- SQuAD ----


def squad_words(text):
    kept = "".join(c for c in text.lower() if c not in PUNCTUATION)
    return re.sub(r"\b(?:the|an|a)\b", " ", kept).split()


def squad_f1(answer, truth):
    got, wanted = squad_words(answer), squad_words(truth)
    if not got or not wanted:
        return float(got == wanted)
    left = list(wanted)
    common = 0
    for word in got:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(got), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def squad_exact(answer, truth):
    return " ".join(squad_words(answer)) == " ".join(squad_words(truth))


WORDS = (
    "a an the A An THE The a the b c d New York york City of Paris paris PARIS 1930 1,200 1200 3.14 -5 5 ½ 十 二 中国 北京 "
    "東京 José Jose\u0301 Straße ΣΊΣΥΦΟΣ İstanbul naïve ﬁne don't dont it's U.S. us e-mail email rock'n'roll (the) [a] "
    "\"the\" the, a. an! —the— the—end a\u0301 a\u0903 “the” ‘a’ the_ _a_ a1 1a theory than athe ① ٣ ａ Ⓐ क\u093e "
    "I II x=1 C++ C# AT&T $5 5% 50% @home #1 ~ ^ ` | \\ / <a> {the} ¿qué? ¡a! 。 、 ， ？ 《the》"
).split()
SPACES = [" "] * 12 + ["  ", "\t", "\n", "\u00a0", "\u3000", "\x1c", "\x1f", "\u2028", "\u200b", "\x00", "\x85", ""]


def random_text(rng):
    n = rng.choice([0, 1, 1, 2, 2, 3, 4, 6, 9])
    out = rng.choice(["", "", "", " ", "\n"])
    for _ in range(n):
        word = rng.choice(WORDS)
        if rng.random() < 0.1:
            word = word.upper() if rng.random() < 0.5 else word.capitalize()
        if rng.random() < 0.1:
            word += rng.choice(string.punctuation)
        out += word + rng.choice(SPACES)
    return out


def squad_pair(rng):
    truth = random_text(rng)
    kind = rng.random()
    if kind < 0.35:
        return random_text(rng), truth
    # The same words, changed here and there: pairs that have something in common.
    words = truth.split(" ")
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(words))
        change = rng.randrange(5)
        if change == 0:
            words[at] = rng.choice(WORDS)
        elif change == 1:
            words.insert(at, rng.choice(WORDS))
        elif change == 2 and len(words) > 1:
            del words[at]
        elif change == 3:
            words.insert(at, words[at])
        else:
            rng.shuffle(words)
    return " ".join(words), truth


# ---- GAIA ----


def as_float(text):
    try:
        return float(text)
    except ValueError:
        return None


def is_number(text):
    value = as_float(text)
    return value is not None and math.isfinite(value)


def number_equal(answer, truth):
    for sign in "$%,":
        answer = answer.replace(sign, "")
    value = as_float(answer)
    # The scorer gives an answer that is no number the value infinity; here it equals nothing.
    return value is not None and math.isfinite(value) and value == float(truth)


def squeezed(text, without_punctuation):
    text = re.sub(r"\s", "", text).lower()
    return "".join(c for c in text if c not in PUNCTUATION) if without_punctuation else text


def gaia_equal(answer, truth):
    """The rule, except that "inf" and "nan" are words: for the scorer every word equals the truth "inf", and nothing the
    truth "nan"."""
    if is_number(truth):
        return number_equal(answer, truth)
    if "," in truth or ";" in truth:
        wanted, got = re.split("[,;]", truth), re.split("[,;]", answer)
        if len(wanted) != len(got):
            return False
        return all(
            number_equal(g, w) if is_number(w) else squeezed(g, False) == squeezed(w, False)
            for g, w in zip(got, wanted)
        )
    return squeezed(answer, True) == squeezed(truth, True)


ATOMS = (
    "5 5.0 05 5. .5 0.5 -5 +5 1e3 1E3 1000 1_000 1__0 _1 $5 5% 50% 0x10 ٣ ３ ½ inf nan -inf Infinity 1e999 five "
    "Paris paris PARIS P.aris St.Louis St_Louis Ahr Lahn Moselle a b the i.e. José 北京 Straße ΣΑΣ -0 0 0.1 0.30000000000000004 "
    "0.3 9007199254740993 9007199254740992"
).split()


def gaia_truth(rng):
    n = rng.choice([1, 1, 1, 2, 3])
    separator = rng.choice([", ", ",", "; ", ";", " , "])
    atom = lambda: " ".join(rng.choice(ATOMS) for _ in range(rng.choice([1, 1, 1, 2])))
    return separator.join(atom() for _ in range(n))


def gaia_pair(rng):
    truth = gaia_truth(rng)
    if rng.random() < 0.25:
        return gaia_truth(rng), truth
    answer = truth
    for _ in range(rng.randint(0, 2)):
        change = rng.randrange(8)
        if change == 0:
            answer = answer.upper()
        elif change == 1:
            answer = answer.replace(" ", "")
        elif change == 2:
            answer = answer.replace(", ", ";")
        elif change == 3:
            answer = rng.choice(["$", " ", "\t", "\u00a0", ""]) + answer + rng.choice(["%", ".", "\n", " ", "!"])
        elif change == 4:
            answer = answer.replace(".", "")
        elif change == 5:
            answer += rng.choice([",", ", x", ";", " 5"])
        elif change == 6:
            answer = answer.replace("5", "5.00")
        else:
            answer = answer.replace("1000", "1,000")
    return answer, truth


def main():
    rng = random.Random(6)
    qa = []
    while len(qa) < 1600:
        answer, truth = squad_pair(rng)
        qa.append([answer, truth, squad_f1(answer, truth), squad_exact(answer, truth)])
    gaia = []
    while len(gaia) < 1200:
        answer, truth = gaia_pair(rng)
        gaia.append([answer, truth, gaia_equal(answer, truth)])
    n_between = sum(0 < f1 < 1 for _, _, f1, _ in qa)
    print(f"qa: {len(qa)} pairs, {sum(e for *_, e in qa)} exact, {n_between} with 0 < F1 < 1")
    print(f"gaia: {len(gaia)} pairs, {sum(e for *_, e in gaia)} equal")
    lines = lambda rows: ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    text = '{"qa": [\n' + lines(qa) + '\n],\n"gaia": [\n' + lines(gaia) + "\n]}\n"
    (Path(__file__).parent / "graders.json").write_text(text)


if __name__ == "__main__":
    main()
