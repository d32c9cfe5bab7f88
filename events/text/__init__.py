"""Text handling: hostile text made safe to show, secrets redacted, diffs, operational logs."""
