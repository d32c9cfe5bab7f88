"""The pages, by their addresses; each has a `.json` twin.

Law: a page is a function of what was asked. It reads logs and indexes, and has no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from events.web.page import Asked, Page
from events.web.pages import runs

MakePage = Callable[[Asked], Page]

PAGES: Final[Mapping[str, MakePage]] = {
    "/": runs.page,
}
