"""Texts with marks in them: what changed, what was found, how likely each token was.

Law: total on hostile text: it is cleaned and escaped, and a mark never rests on colour alone. Equal texts give equal marks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import exp

from markupsafe import Markup, escape

from events.projections.answer_detail import CompletionDetail
from events.text.diff import DiffLine
from events.text.safe_text import clean
from events.web.view.token_classes import advantage_step, probability_step

_WORD = re.compile(r"[^\W_]+")
_SEEN = str.maketrans({"\n": "⏎", "\t": "⇥", " ": "␣"})


def mark_changes(line: DiffLine) -> Markup:
    """The line, the changed parts in `<b>`."""
    text, parts, at = clean(line.text), [], 0
    for start, end in line.spans:
        parts += [escape(text[at:start]), Markup("<b>{}</b>").format(text[start:end])]
        at = end
    return Markup("").join([*parts, escape(text[at:])])


def mark_words(text: str, wanted: Sequence[str]) -> Markup:
    """The text, words and phrases that were looked for in `<mark>`."""
    phrases = [r"[\W_]+".join(words) for phrase in wanted if (words := _WORD.findall(phrase))]
    if not phrases:
        return escape(clean(text))
    parts = re.split(rf"(?<![^\W_])({'|'.join(phrases)})", clean(text), flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def token_span(story: CompletionDetail, place: int, colour: str) -> Markup:
    """A token of a completion, its class by what it is coloured by, its numbers as a tooltip."""
    logprob, advantage = story.logprobs[place], story.advantage
    said = f"token {place}, id {story.ids[place]}: logprob {logprob:.3f}, probability {exp(logprob):.2f}"
    if advantage is not None:
        said = f"{said}, advantage {advantage:+.2f}"
    step = (
        probability_step(logprob).name if colour == "logprob" else "" if advantage is None else advantage_step(advantage).name
    )
    # Without a tokenizer the number stands for the text, and pieces can be empty.
    text = f"{story.ids[place]} " if story.pieces is None else clean(story.pieces[place]).replace("\n", "⏎\n")
    return Markup('<span class="token {}" title="{}">{}</span>').format(step, said, text)


def visible(text: str) -> str:
    """A token's text, blanks and line ends as marks."""
    return clean(text).translate(_SEEN)


def probability(logprob: float) -> str:
    """As a number from 0 to 1."""
    return f"{exp(min(0.0, logprob)):.3f}"
