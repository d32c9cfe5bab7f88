"""The plan on paper is what its formulas say, and stands in the document."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny import loaded, tiny_weights
from trainer.budget import WAYS, Plan, table

ROOT = Path(__file__).parent.parent


def test_the_document_has_the_table() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    begin, end = "<!-- budget: begin (made by `python -m trainer.budget`) -->\n", "<!-- budget: end -->"
    assert text.split(begin)[1].split(end)[0].splitlines() == table(Plan())


def test_the_command_prints_it_and_needs_no_torch() -> None:
    code = "import sys; from trainer.budget import main, Plan, table; print(*table(Plan()), sep='\\n'); assert 'torch' not in sys.modules"
    plain = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said = subprocess.run([sys.executable, "-m", "trainer.budget"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == plain


def test_a_hand_computed_plan() -> None:
    plan = replace(Plan(), weights=1e9, layers=2, width=10, inner=30, key_values=5, batch_tokens=100, rank=1)
    assert plan.adapter == 2 * (20 + 20 + 15 + 15 + 3 * 40)
    assert [plan.state(way) for way in WAYS] == [16e9, 10e9, 4e9 + 16 * plan.adapter]
    assert plan.cache == 40
    assert plan.layer == 100 * (2 * (30 + 10 + 90) + 160)
    assert plan.activations == 4 * 100 * 10 * 2 + plan.layer
    plan = replace(plan, sampled=10, completion=100, peak=1e12, decoding=0.5, gpus=2)
    assert plan.sampling_s == pytest.approx(10 * 100 * 2e9 / 1e12)


def test_adapters_are_counted_as_peft_makes_them(tmp_path: Path) -> None:
    from graph.config import LoraSettings
    from trainer.adapter import Adapter

    model = loaded(tmp_path / tiny_weights(tmp_path))
    config = model.config
    Adapter.attach(model, "shared", "0" * 64, LoraSettings(rank=4), seed=0)
    made = sum(value.numel() for name, value in model.named_parameters() if "lora_" in name)
    plan = replace(
        Plan(),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        inner=config.intermediate_size,
        key_values=config.num_key_value_heads * config.head_dim,
        rank=4,
    )
    assert plan.adapter == made
