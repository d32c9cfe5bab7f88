"""A proposed program keeps what its entry needs, as it was written, and nothing else."""

import ast

import pytest

from roles.judging.needed_code import needed_source

F = "def f(x):\n    # Twice.\n    return 2 * x"


def needed(source: str) -> str:
    return needed_source(source, ast.parse(source), "f")


@pytest.mark.parametrize(
    "source",
    [
        f"{F}\n\n# Tests\nassert f(1) == 2\nprint(f(2))",
        f'{F}\n\ndef main():\n    print(f(1))\n\nif __name__ == "__main__":\n    main()',
        f'"""A module."""\nimport random, numpy as np\nfrom os import path\n{F}',
        f"{F}\nresult = f(1)\nclass Unused:\n    value = f(2)",
        f"{F}\ndef show(y):\n    print(y)\nshow(f(2))\nassert show(f(1)) is None",
        f"{F}\ntry:\n    import random\nexcept ImportError:\n    random = None\nif f(1):\n    def more(): return f(2)",
        f"{F}\nx = 3\nprint(f(x))\nfor x in range(3):\n    print(f(x))",
    ],
)
def test_what_the_entry_does_not_need_is_left_out(source: str) -> None:
    assert needed(source) == F


@pytest.mark.parametrize(
    "source",
    [
        F,
        "import math\nfrom collections import Counter as C\n\ndef f(x):\n    return C(math.floor(y) for y in x)",
        "def g(x):\n    return h(x)\n\ndef h(x):\n    return x\n\ndef f(x):\n    return g(x)",
        "table = {}\nfor n in range(9):\n    table[n] = n * n\ntable[3] = 0\ntable.update(a=1)\ndef f(x):\n    return table[x]",
        "from math import *\ndef f(x):\n    return floor(x)",
        "from __future__ import annotations\nclass N:\n    def same(self, other: N): return other\ndef f(x):\n    return N().same(x)",
        "try:\n    from math import lcm\nexcept ImportError:\n    def lcm(x, y): return x * y\ndef f(x):\n    return lcm(x, 6)",
        "@cache\ndef f(x):\n    return x",
        "global_ = 1; rest = 2\ndef f(x): return x + global_ + rest",
        "def g(x):\n    return x",
        "table = []\ndef fill(n):\n    for i in range(n):\n        table.append(i * i)\nfill(9)\ndef f(x):\n    return table[x]",
        "def f(x):\n    return x + y\nprint(y := 3)",
        "count = 0\ndef f(x):\n    global count\n    count = x\n    return count",
        "scale = 2\nclass C:\n    def get(self, x):\n        return [scale * y for y in x]\n@C\ndef f(x: int = scale): return C().get(x)",
    ],
)
def test_a_program_that_needs_all_of_it_stays_as_it_is(source: str) -> None:
    assert needed(source) == source


def test_statements_on_one_line_are_not_taken_apart() -> None:
    source = "a = 1; print(a); b = 2\ndef f(x): return x + a + b"
    assert needed(source) == source
