"""The program that EvalPlus would take out of an answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.pure.answer_parsing import Malformed
from events.pure.evalplus_sanitizer import MAX_ANSWER_LENGTH, extract_program, longest_parsable_lines, sanitize

PROSE = "Here's the function:\n\n```python\n{}\n```\n\nIt isn't hard."
WHOLE = "import math\nfrom typing import List\nLIMIT = 3\ndef helper(x):\n    return x + LIMIT\ndef more(x: List):\n    return helper(x)"

TAKEN = [
    ("a block among words", PROSE.format(WHOLE), WHOLE),
    ("a block that was never closed", f"```python\n{WHOLE}", WHOLE),
    ("no block at all", WHOLE, WHOLE),
    ("demonstrations", PROSE.format(f"{WHOLE}\n\nprint(more(1))\nassert more(1) == 5\nfor n in range(9):\n    more(n)"), WHOLE),
    ("a tail that was cut", f"```python\n{WHOLE}\n\ndef test():\n    assert more([", WHOLE),
    ("a test that returns nothing", PROSE.format(f"{WHOLE}\n\ndef test():\n    assert more(1) == 2\n\ntest()"), WHOLE),
    ("a guard", PROSE.format(f'{WHOLE}\nif __name__ == "__main__":\n    print(more(1))'), WHOLE),
    ("what the entry does not need", PROSE.format(f"{WHOLE}\ndef other(x):\n    return 1\nclass Other:\n    pass"), WHOLE),
    ("the first of two definitions", PROSE.format(f"{WHOLE}\ndef more(x):\n    return 0"), WHOLE),
    ("a fence in a docstring", "```python\ndef more(x):\n    '''\n    ```\n    1\n    ```\n    '''\n    return 1\n```", "def more(x):\n    '''\n    ```\n    1\n    ```\n    '''\n    return 1"),
    ("the longer of two blocks", PROSE.format("def more(x):\n    return 0") + PROSE.format(WHOLE), WHOLE),
    ("a class that is used", "class A:\n    pass\ndef more(x):\n    return A()", "class A:\n    pass\ndef more(x):\n    return A()"),
    ("a name in an annotation", "T = int\ndef more(x: T):\n    return x", "T = int\ndef more(x: T):\n    return x"),
    ("nothing but words that are Python", "x\ny", "x\ny"),
    ("one line", "def more(x): return x", "def more(x): return x"),
    ("letters of several bytes", "é = 'é'; ü = 1\ndef more(x):\n    return é", "é = 'é'\ndef more(x):\n    return é"),
    ("a carriage return in a text", "```python\nK = 1\ndef more(x):\n    '''a\rb'''\n    return x + K\nprint(more(1))\n```", "K = 1\ndef more(x):\n    '''a\rb'''\n    return x + K"),
    ("an answer between marks", "<think>\ndef more(x):\n    y = 1\n    return 0\n</think>\n<answer>\ndef more(x):\n    return 1\n</answer>", "def more(x):\n    return 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "program"), [(text, program) for _, text, program in TAKEN], ids=[name for name, _, _ in TAKEN]
)
def test_the_program_is_what_evalplus_takes(text, program):
    assert extract_program(text, "evalplus", "more") == program


@pytest.mark.parametrize(
    "left_out",
    ["@cache\ndef more(x):\n    return x", "from __future__ import annotations", "a, b = 1, 2", "try:\n    import numpy\nexcept ImportError:\n    pass"],
)  # fmt: skip
def test_what_evalplus_leaves_out_is_left_out(left_out):
    assert sanitize(f"{left_out}\nimport math\n{WHOLE}", "more") == f"import math\n{WHOLE}"


def test_a_block_of_one_line_is_nothing_to_evalplus():
    assert isinstance(sanitize("```python\ndef more(x): return x\n```", "more"), Malformed)


@pytest.mark.parametrize("text", ["", "\n\n", "\0", "\ud800\n\ud800", "no\0pe"])
def test_what_holds_no_program_is_malformed(text):
    assert isinstance(sanitize(text, "more"), Malformed)


PIECES = ["x = 1", "def more(x):", " return x", "'''", "# é", "\f", "import a; b = 'ü'", "```", "\ud800"]


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["\n", "\r", "\r\n"])), max_size=9))
def test_an_answer_is_read_without_an_error_whatever_ends_its_lines(lines):
    assert isinstance(sanitize("".join(map("".join, lines)), "more"), str | Malformed)


def test_other_rules_take_the_last_block():
    text = PROSE.format("def more(x):\n    return 0\nprint(more(1))")
    assert extract_program(text, "own", "more") == extract_program(text, "livecodebench", "more") == text.split("```")[1][7:-1]


@pytest.mark.parametrize("line", ["(", '"""', "if x:", "x = 1", "f(", "@a", "x = (1 +", "class A:\n def f(self):", "'"])
def test_hostile_text_is_read_in_bounded_time(line):
    for text in (f"{line}\n" * 20_000, "".join(f"{line}{n}\n" for n in range(20_000)), f"x=1\n{line}\n" * 9_000):
        began = time.process_time()
        longest_parsable_lines(text[:MAX_ANSWER_LENGTH])
        assert time.process_time() - began < 5, "some tenths of a second, on a machine at rest"
