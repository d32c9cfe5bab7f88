"""What a person sees of a run that this process plays: a live display, or plain lines, and a report at the end.

Guarantees: every figure of the run comes from the log, so a resumed run shows what an undisturbed one would. Only what this
process does just now, and its warnings, come from its `Activity`.
"""
