"""A page: a function from a request to a template, a title and a model.

The JSON endpoint of a page dumps the same model, so a model is plain data: dataclasses, named tuples, values, containers.
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
    """What a page shows."""

    template: str
    """File in `templates/`."""
    title: str
    """May hold text that a model wrote."""
    model: Any
    """Plain data; the template has it as `model`, and the JSON endpoint dumps it."""


@dataclasses.dataclass(frozen=True)
class PageRequest:
    """A request for a page, and all that the page may read."""

    viewer: Viewer
    run_or_none: RunHandle | None
    """The run that the address names, if it names one."""
    params: Mapping[str, str]
    """Path parameters of the route, by name."""
    query: QueryParams
    """Query parameters: the first of each name, `getlist` for all."""
    address: str
    """Path of the page, without query and without `.json`."""
    was_reading: bool = False
    """Whether much of the run's log had not been read when the page was begun; it may be read by the time it is rendered."""

    @property
    def run(self) -> RunHandle:
        """The run that the address names."""
        assert self.run_or_none is not None, "this page is not one of a run"
        return self.run_or_none

    @property
    def reading(self) -> bool:
        """Whether the page may lack much of the run."""
        return self.was_reading or self.run.reading

    @property
    def json_address(self) -> str:
        """The address of this page as JSON."""
        return f"{quote('/index' if self.address == '/' else self.address, safe='/')}.json{_query(dict(self.query))}"

    def integer(self, name: str, default: int | None = None) -> int | None:
        """The query parameter of that name as an integer of at least 0; BadInput if it is none."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise BadInput(f"The query parameter {name}={text!r} is no whole number; write one such as {name}=100.")
        return int(text)

    def link(self, *parts: object, run: RunHandle | None = None, **query: object) -> str:
        """The address of another page of this run, or of another run.

        `link("goalposts", id)` is `/runs/NAME/goalposts/ID`; query parameters that are None are left out. Without a run,
        the parts are those of the whole path.
        """
        of = run or self.run_or_none
        root = f"/runs/{quote(of.slug, safe='')}" if of is not None else ""
        path = "/".join([root, *(quote(str(part), safe="/") for part in parts)])
        return f"{path or '/'}{_query(query)}"

    def here(self, **query: object) -> str:
        """The address of this page with these query parameters changed, or left out where None."""
        return f"{quote(self.address, safe='/')}{_query(dict(self.query) | query)}"


def _query(query: Mapping[str, object]) -> str:
    parameters = {name: value for name, value in query.items() if value not in (None, "")}
    return f"?{urlencode(parameters, doseq=True)}" if parameters else ""


def to_json(value: Any) -> Any:
    """A model as JSON values; floats that are not finite become None."""
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
    raise TypeError(f"{type(value).__name__} is no plain data, which a page's model must be.")
