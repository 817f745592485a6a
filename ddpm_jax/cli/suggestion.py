"""Hints for a config field that does not exist: fields of similar spelling, abbreviation or meaning."""

import difflib
from collections.abc import Sequence

OTHER_NAMES = {  # what other programs call a field, by its last part
    "augment": "flip",
    "depth": "blocks",
    "epochs": "steps",
    "gpus": "devices",
    "iterations": "steps",
    "iters": "steps",
    "res": "image_size",
    "resolution": "image_size",
    "timesteps": "T",
    "width": "channels",
}
MARGIN = 0.1  # how far below the best score a field is still named


def suggest_fields(name: str, known: Sequence[str]) -> list[str]:
    """Returns at most three known fields that 'name' may stand for, the likeliest first."""
    scores = {field: score(name, field) for field in known}
    best = max(scores.values())
    near = [field for field in known if scores[field] and scores[field] > best - MARGIN]
    # Of a name that several sections have, training's is the likeliest.
    return sorted(near, key=lambda field: (-scores[field], not field.startswith("train.")))[:3]


def score(name: str, field: str) -> float:
    """Returns how likely a name stands for a field: mostly by the last part, a little by the section."""
    (section, _, last), (own_section, _, own) = name.rpartition("."), field.rpartition(".")
    likeness = compare(last, own)
    if likeness < (0.6 if section == own_section else 0.7):
        return 0.0
    kinship = ratio(section, own_section) if own_section else 0.5
    return likeness + 0.3 * kinship


def compare(last: str, own: str) -> float:
    """Compares the last part of a name with a field's: equal, an abbreviation, a word of it, or similar."""
    words, own_words = last.lower().split("_"), own.lower().split("_")
    if last == own:
        return 1.0
    if OTHER_NAMES.get(last.lower()) == own or words == own_words:
        return 0.95
    if len(last) > 1 and last.lower() == "".join(word[0] for word in own_words):
        return 0.95
    if len(last) > 1 and own.lower().startswith(last.lower()):
        return 0.9
    likeness = ratio(last, own)
    if set(words) & set(own_words):
        return max(likeness, 0.75)
    return likeness


def ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
