"""Who plays: teacher, student and verifier; models, prompts, question sets."""

from events.process.startup import begin_command

begin_command()
