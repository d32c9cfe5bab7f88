"""What a page is: a function from what was asked to a template, a title and plain data.

Law: the page and its `.json` twin show the same model, so a model holds plain data only (dataclasses, named tuples, values,
containers). It renders nothing: see `events.web.app`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from pydantic import BaseModel
from starlette.datastructures import QueryParams

from events.facts.errors import BadInput

if TYPE_CHECKING:
    from events.web.view.run_handle import RunHandle
    from events.web.view.viewer import Viewer


class Page(NamedTuple):
    """What is shown."""

    template: str
    """File in `templates/`."""
    title: str
    """May quote a model."""
    model: Any
    """Plain data; the template has it as `model`, and the twin dumps exactly it."""


@dataclasses.dataclass(frozen=True)
class PageRequest:
    """What was asked for, and all that a page may look at."""

    viewer: Viewer
    seen: RunHandle | None
    """The run that the address names, if it names one."""
    path: Mapping[str, str]
    """The parts of the address that a route leaves open, by name."""
    query: QueryParams
    """What stands behind the question mark; the first of each name, `getlist` for all."""
    place: str
    """The address itself, without query, and without the twin's `.json`."""

    @property
    def run(self) -> RunHandle:
        """The run that the address names."""
        assert self.seen is not None, "this page is not one of a run"
        return self.seen

    @property
    def json_address(self) -> str:
        """The address of this page as JSON."""
        return f"{quote('/index' if self.place == '/' else self.place, safe='/')}.json{_asking(dict(self.query))}"

    def whole(self, name: str, default: int | None = None) -> int | None:
        """The whole number of that name in the query, not below 0.

        Raises:
            BadInput: it is something else.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise BadInput(f"{name}={text!r} in the address is no whole number; write one such as {name}=100")
        return int(text)

    def link(self, *parts: object, run: RunHandle | None = None, **query: object) -> str:
        """The address of another page: of this run, or of the run that is given.

        `link("goalposts", id)` is `/runs/NAME/goalposts/ID`; what is None in the query is left out. Without a run, parts
        are those of the whole address.
        """
        whose = run or self.seen
        root = f"/runs/{quote(whose.slug, safe='')}" if whose is not None else ""
        path = "/".join([root, *(quote(str(part), safe="/") for part in parts)])
        return f"{path or '/'}{_asking(query)}"

    def here(self, **query: object) -> str:
        """The address of this page with these names of its query changed, or left out where None."""
        return f"{quote(self.place, safe='/')}{_asking(dict(self.query) | query)}"


def _asking(query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"?{urlencode(given, doseq=True)}" if given else ""


def to_json(value: Any) -> Any:
    """A model as JSON holds it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.isoformat()
        case BaseModel():
            return value.model_dump(mode="json")
        case tuple() if hasattr(value, "_asdict"):
            return {name: to_json(part) for name, part in value._asdict().items()}
        case tuple() | list():
            return [to_json(part) for part in value]
        case Mapping():
            return {str(name): to_json(part) for name, part in value.items()}
        case Collection():
            return [to_json(part) for part in value]
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} is no plain data; a page's model holds nothing else")
