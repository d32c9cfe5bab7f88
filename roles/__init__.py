"""Who plays: teacher, student and verifier; models, prompts, question sets."""

from events.process.startup import begin_command

# Here, because `python -m` imports the package first: so even an early Ctrl-C ends a command without a traceback.
begin_command()
