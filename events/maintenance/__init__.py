"""Looking after logs: back up, repair, move between stores, merge. No function changes what a log says."""

from events.maintenance.backup import backup
from events.maintenance.copy import Copied, migrate
from events.maintenance.merge import Merge, StreamConflict, merge
from events.maintenance.repair import Repair, repair

__all__ = ["Copied", "Merge", "Repair", "StreamConflict", "backup", "merge", "migrate", "repair"]
