"""Signs of reward hacking in a run, by rule, with links to the evidence."""

from __future__ import annotations

from collections import Counter
from typing import Final

from events.facts.errors import BadInput
from events.pure.reward_hacking import RULES
from events.reports.shifts import sudden_shifts
from events.web.view.page import Page, PageRequest

ROWS: Final = 50
"""Signs on a page."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    rule = request.query.get("rule", "")
    if rule and rule not in RULES:
        raise BadInput(f"There is no rule {rule!r}; the rules are {', '.join(RULES)}.")
    index, before = request.run.index, request.integer("before")
    all_shifts = sudden_shifts(request.run.summary())[::-1]
    counts = Counter(index.sign_counts()) + Counter(sign.rule for sign in all_shifts)
    signs = index.signs(rule=rule or None, before=before, limit=ROWS)
    model = {
        "rules": [{"name": name, "meaning": meaning, "count": counts[name]} for name, meaning in RULES.items()],
        "rule": rule,
        "shifts": [sign for sign in all_shifts if rule in ("", sign.rule)] if before is None else [],
        "signs": signs,
        "searched": None if index.has_all_signs else index.signs_position,
        "older": signs[-1].position if len(signs) == ROWS else None,
    }
    return Page("suspicion.html", "Suspicion", model)
