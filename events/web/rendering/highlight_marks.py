"""Marks parts of texts: what changed, what a search found, how probable each token was.

Guarantees: any text comes out cleaned and escaped, and no mark is shown by colour alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import exp

from markupsafe import Markup, escape

from events.projections.completion_detail import CompletionDetail
from events.text.diff import DiffLine
from events.text.safe_text import clean
from events.web.view.token_classes import advantage_step, probability_step

_WORD = re.compile(r"[^\W_]+")
_SEEN = str.maketrans({"\n": "⏎", "\t": "⇥", " ": "␣"})


def mark_changes(line: DiffLine) -> Markup:
    """The line with its changed parts in `<b>`."""
    text, parts, at = clean(line.text), [], 0
    for start, end in line.spans:
        parts += [escape(text[at:start]), Markup("<b>{}</b>").format(text[start:end])]
        at = end
    return Markup("").join([*parts, escape(text[at:])])


def mark_words(text: str, wanted: Sequence[str]) -> Markup:
    """The text with words and phrases of a search in `<mark>`."""
    phrases = [r"[\W_]+".join(words) for phrase in wanted if (words := _WORD.findall(phrase))]
    if not phrases:
        return escape(clean(text))
    parts = re.split(rf"(?<![^\W_])({'|'.join(phrases)})", clean(text), flags=re.IGNORECASE)
    mark = Markup("<mark>{}</mark>")
    return Markup("").join(mark.format(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def token_span(completion: CompletionDetail, index: int, colour: str) -> Markup:
    """A token of a completion, with a class for its colour and its numbers as a tooltip."""
    logprob, advantage = completion.logprobs[index], completion.advantage
    title = f"token {index}, id {completion.ids[index]}: logprob {logprob:.3f}, probability {exp(logprob):.2f}"
    if not completion.sampled[index]:
        title, colour, advantage = f"token {index}, id {completion.ids[index]}: given, not sampled", "given", None
    if advantage is not None:
        title = f"{title}, advantage {advantage:+.2f}"
    by_advantage = "" if advantage is None else advantage_step(advantage).name
    step = {"logprob": probability_step(logprob).name, "given": "given"}.get(colour, by_advantage)
    # Without a tokenizer the id stands for the text.
    text = f"{completion.ids[index]} " if completion.pieces is None else clean(completion.pieces[index]).replace("\n", "⏎\n")
    return Markup('<span class="token {}" title="{}">{}</span>').format(step, title, text)


def visible(text: str) -> str:
    """A token's text with visible blanks and line ends."""
    return clean(text).translate(_SEEN)


def probability(logprob: float) -> str:
    """The probability of a logprob, 0 to 1."""
    return f"{exp(min(0.0, logprob)):.3f}"
