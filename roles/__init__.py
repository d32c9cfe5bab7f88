"""Who plays: teacher (easy and hard seat), solver, verifier; models, prompts, question sets."""

from events.process.startup import begin_command

begin_command()
