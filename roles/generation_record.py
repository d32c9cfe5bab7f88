"""Records a model's reply as a `Generation`: texts and arrays become blobs, and the fact keeps their hashes."""

from __future__ import annotations

import json

from events.facts.log import Log
from events.facts.rollouts import pack_rollouts
from events.facts.values import BlobHash, Generation, Question, canonical
from roles.model import GenerationReply, GenerationRequest


def record_generation(log: Log, request: GenerationRequest, reply: GenerationReply, template: str) -> Generation:
    """Stage the reply's blobs, and return the `Generation`; the blobs become durable with the caller's append."""
    answers = reply.completions
    return Generation(
        policy=reply.policy,
        template=template,
        prompt=log.put(request.prompt.encode("utf-8", "surrogatepass")),
        texts=log.put(json.dumps([answer.text for answer in answers]).encode()),
        tokens=log.put(pack_reply(reply)),
        count=len(answers),
        length=sum(len(answer.token_ids) for answer in answers),
        seed=request.seed,
        sampling=request.sampling,
        parts=request.parts,
    )


def pack_reply(reply: GenerationReply) -> bytes:
    """The token arrays of a reply, as they are logged."""
    answers = reply.completions
    return pack_rollouts(
        reply.prompt_ids,
        [answer.token_ids for answer in answers],
        [answer.logprobs for answer in answers],
        [answer.sampled for answer in answers],
    )


def completion_texts(log: Log, generation: Generation) -> list[str]:
    """The completion texts of a logged generation."""
    return [str(text) for text in json.loads(log.get(generation.texts))]


def put_question(log: Log, question: Question) -> BlobHash:
    """Stage a question as a blob."""
    return log.put(canonical(question))
