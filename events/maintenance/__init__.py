"""Looking after logs: back up, repair, move between stores, merge. No function changes what a log says."""

from events.maintenance.backup import backup
from events.maintenance.copy import CopyResult, migrate
from events.maintenance.merge import MergeReport, StreamConflict, merge
from events.maintenance.repair import RepairReport, repair

__all__ = ["CopyResult", "MergeReport", "RepairReport", "StreamConflict", "backup", "merge", "migrate", "repair"]
