"""The encoder embedding: a tiny random BERT for the mechanics, all-MiniLM-L6-v2 for known vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from events.facts.errors import GaspError, ModelError
from roles.judging.encoder import EncoderEmbedding
from roles.judging.similarity import embedding
from tests.support.tiny_model import tiny_weights
from trainer.learn.loss import keep_libraries_offline

REAL = Path(os.environ.get("GASP_ENCODER", "none"))
WORDS = 64
LONG = " ".join(f"t{number}" for number in range(2, 60))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tiny random BERT with a window of 16 tokens, in sentence-transformers' format."""
    keep_libraries_offline()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=WORDS, max_position_embeddings=32, initializer_range=0.5, **sizes)).save_pretrained(
        tmp_path
    )
    words = {"[CLS]": 0, "[SEP]": 1, **{f"t{n}": n for n in range(2, WORDS)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="t2"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    # As all-MiniLM-L6-v2 has it: the file's own cut is shorter than the window, and does not count.
    plain.enable_truncation(8)
    PreTrainedTokenizerFast(tokenizer_object=plain, cls_token="[CLS]", sep_token="[SEP]").save_pretrained(tmp_path)
    for name, content in {
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "modules.json": [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def states(folder: Path, ids: list[int]):
    """Last hidden states of ids without padding [T, hidden size]."""
    import torch
    from transformers import AutoModel

    with torch.inference_mode():
        return (
            AutoModel.from_pretrained(folder, dtype=torch.float64)(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        )


def test_a_vector_is_the_mean_of_the_states_whatever_it_is_batched_with(folder):
    encode = EncoderEmbedding(folder)
    texts = ["t3 t4 t5", "t9", LONG, *(f"t{n} t{n + 1} t9" for n in range(2, 40))]
    rows = encode(texts)
    mean = states(folder, [0, 3, 4, 5, 1]).mean(axis=0)
    assert rows[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-12)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(len(texts)))
    assert np.abs(rows - np.concatenate([encode([text]) for text in texts])).max() < 1e-12


def test_a_text_longer_than_the_window_is_read_in_windows(folder):
    encode = EncoderEmbedding(folder)
    assert encode.window == 16
    ids = range(2, 60)
    windows = [[0, *ids[start : start + 14], 1] for start in range(0, len(ids), 14)]
    mean = np.concatenate([states(folder, window) for window in windows]).mean(axis=0)
    assert encode([LONG])[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-12)
    ended, changed = encode([LONG, LONG.replace("t59", "t7")])
    assert ended @ changed < 1 - 1e-6, "the end of a long text counts"


def test_plain_hugging_face_folders_have_the_window_of_their_positions(folder):
    for name in ("modules.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    assert EncoderEmbedding(folder).window == 32


def test_pooling_by_the_first_token_is_read_from_the_folder(folder):
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode": "cls"}')
    first = states(folder, [0, 3, 4, 1])[0]
    assert EncoderEmbedding(folder)(["t3 t4"])[0] == pytest.approx(first / np.linalg.norm(first), abs=1e-12)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pools by pooling_mode_max_tokens"),
        ("1_Pooling/config.json", '{"pooling_mode": "lasttoken"}', "pools by lasttoken"),
        ("modules.json", '[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]', "has a layer Dense"),
        ("modules.json", "{", "cannot be read as JSON"),
        ("modules.json", "{}", "is not what sentence-transformers writes"),
        ("config_sentence_transformers.json", '{"default_prompt_name": "query"}', "puts a prompt 'query' before"),
        ("config.json", "{}", "cannot be loaded"),
        ("tokenizer.json", None, "tokenizer"),
        ("model.safetensors", None, "cannot be loaded"),
        ("model.safetensors", "cut off", "cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(folder, file, content, sentence):
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(ModelError, match=sentence) as error:
        embedding(str(folder))
    assert "\n" not in str(error.value)


def test_weights_that_lack_a_layer_are_refused(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack encoder\.layer\.1\.output\.dense\.weight"):
        embedding(str(folder))


def test_a_causal_model_is_no_encoder(tmp_path):
    with pytest.raises(ModelError, match="causal language model"):
        embedding(str(tmp_path / tiny_weights(tmp_path)))


def test_no_such_folder_is_a_sentence(tmp_path):
    with pytest.raises(GaspError, match=r"neither 'ngrams' nor a folder with config\.json"):
        embedding(str(tmp_path / "none"))


@pytest.mark.skipif(not (REAL / "config.json").is_file(), reason="GASP_ENCODER names no folder of all-MiniLM-L6-v2")
def test_the_real_encoder_gives_the_vectors_of_sentence_transformers():
    encode = EncoderEmbedding(REAL)
    assert encode.window == 256
    row, other = encode(["This is an offline sentence embedding", "Another text to embed"])
    # By sentence-transformers 6.2.0 from the same files.
    assert row[:4] == pytest.approx([0.00025107, 0.01347038, 0.08979725, 0.05361021], abs=1e-6)
    assert other[:4] == pytest.approx([-0.00858627, 0.01601029, -0.03478249, 0.00910842], abs=1e-6)
