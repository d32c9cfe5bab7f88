"""Text: hostile text made safe to show, secrets masked, diffs, operational logs."""
