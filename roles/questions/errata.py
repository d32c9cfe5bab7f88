"""Records of benchmarks that cannot be judged as they stand, each with its reason.

LiveCodeBench's are its own list of errata, and those found since. A filter for unsolved questions would collect exactly these,
so they are left out by default.
"""

from __future__ import annotations

from typing import Final

_SEVERAL: Final = "several outputs are right, the tests know one"
_ORDER: Final = "results in any order are right, the tests know one"
_INTERACTIVE: Final = "interactive: the program talks with a judge"
_WRONG: Final = "its tests are wrong"

LIVECODEBENCH: Final = {
    **dict.fromkeys(("abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_a", "abc343_e", "abc362_c", "arc185_c"), _SEVERAL),
    **dict.fromkeys(("3194", "3221", "3453"), _ORDER),
    **dict.fromkeys(("abc337_e", "abc355_e"), _INTERACTIVE),
    **dict.fromkeys(("abc350_c", "arc189_a"), _WRONG),
}
"""By `question_id`."""
