"""Who plays: teacher (easy and hard seat), solver, verifier; models, prompts, question sets."""

from events.beginning import begin_command

begin_command()
