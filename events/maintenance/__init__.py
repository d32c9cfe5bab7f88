"""Maintenance of logs: back up, repair, copy between stores, merge. Recorded events are never changed."""

from events.maintenance.backup import backup
from events.maintenance.copy import CopyResult, migrate
from events.maintenance.merge import MergeReport, StreamConflict, merge
from events.maintenance.repair import RepairReport, repair

__all__ = ["CopyResult", "MergeReport", "RepairReport", "StreamConflict", "backup", "merge", "migrate", "repair"]
