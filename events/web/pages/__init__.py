"""The pages by address; `.json` behind an address is its JSON endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from events.web.pages import (
    answers,
    attempt,
    compare,
    goalpost,
    goalposts,
    log,
    policies,
    policy,
    question,
    run,
    runs,
    search,
    suspicion,
)
from events.web.view.page import Page, PageRequest

MakePage = Callable[[PageRequest], Page]

PAGES: Final[Mapping[str, MakePage]] = {
    "/": runs.page,
    "/runs/{run}": run.page,
    "/runs/{run}/goalposts": goalposts.page,
    "/runs/{run}/goalposts/{id}": goalpost.page,
    "/runs/{run}/questions/{id}": question.page,
    "/runs/{run}/answers/{stream:path}/{version}": answers.page,
    "/runs/{run}/attempts/{stream:path}/{version}/{index}": attempt.page,
    "/runs/{run}/search": search.page,
    "/runs/{run}/suspicion": suspicion.page,
    "/runs/{run}/policies": policies.page,
    "/runs/{run}/policies/{digest}": policy.page,
    "/runs/{run}/events": log.page,
    "/runs/{run}/events/{position:int}": log.event_page,
    "/compare": compare.page,
}
