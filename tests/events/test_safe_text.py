"""Hostile text."""

import io

import pytest
from rich.console import Console

from events.text.safe_text import clean, markup, one_line

ATTACKS = [
    "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "\x1bP+q\x1b\\",
    "\x9b2J", "\x9d0;t\x9c", "back\x08\x08\x08space", "over\rwrite", "\x00nul\x7fdel", "\u202etxt.exe",
    "\u2066isolate", "zero\u200bwidth\ufeff", "line\u2028separator", "half \ud83d pair",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_control_character_survives(attack: str) -> None:
    safe = clean(attack)
    assert safe.isprintable()
    safe.encode()


@pytest.mark.parametrize("attack", [*ATTACKS, "[red]x[/red]", "[/]", "[link=file:///etc/passwd]x[/link]", "a\\[b]", "\\"])
def test_markup_shows_the_text_and_nothing_else(attack: str) -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200, highlight=False).print(f"<{markup(attack)}>")
    assert out.getvalue().replace("\\\\>", "\\>") == f"<{one_line(attack)}>\n"


def test_ordinary_text_in_any_language_passes_unchanged() -> None:
    for text in ("def f(xs):\n\treturn xs", "Größe → 数字 🙂", "[x for x in xs]"):
        assert clean(text) == text


def test_windows_line_ends_become_plain_ones() -> None:
    assert clean("a\r\nb") == "a\nb"


def test_one_line_joins_and_cuts() -> None:
    assert one_line(" a\n\t b  c ") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"
