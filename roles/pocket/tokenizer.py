"""The pocket model's tokenizer: byte-level BPE that may merge whole phrases and lines of code.

It is lossless on any text. Digits and quoted letters are tokens of their own, so values are read symbol by symbol, while a
phrase or a line of code is one or a few tokens, which makes sampling and updates fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END: Final = "<|end|>"
PAD: Final = "<|pad|>"
VOCABULARY: Final = 1792
CONTEXT: Final = 512

# A code line | a letter of a quoted word | a number's digit with its separator | a run of anything else.
_PIECES: Final = r"    [^\n]*\n|[a-z](?=[a-z]*')|'(?=[a-z]+')|'\n|, -?\d|\d|, [a-z][^,.\n']*|\.\n?|'?[^,.\n\d']+[\n']?|[\n',]"


def train_tokenizer(texts: Iterable[str], pieces: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer for texts like these; `pieces`: further ones to keep together, see `PocketGeneration.pieces`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces + _PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=CONTEXT, padding_side="left"
    )
