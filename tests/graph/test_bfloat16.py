"""Whether the processor has instructions for the number format that a run asks for."""

from pathlib import Path

import pytest

from graph.settings.bfloat16 import slow_bfloat16
from graph.settings.configure import configure

BOTH = ("serve.dtype=bfloat16", "learn.precision=bfloat16")


@pytest.mark.parametrize(
    ("processor", "settings", "named"),
    [
        ("flags\t\t: fpu avx avx2 fma", BOTH, "set serve.dtype=float32 and learn.precision=float32"),
        ("flags\t\t: fpu avx avx2 fma", BOTH[1:], "set learn.precision=float32"),
        (
            "flags\t\t: fpu avx avx2 fma",
            (*BOTH, "serve.backend=vllm", 'serve.urls=["http://a:1"]'),
            "set learn.precision=float32",
        ),
        ("Features\t: fp asimd", BOTH[:1], "set serve.dtype=float32"),
    ],
)
def test_a_processor_without_bfloat16_is_named_with_the_settings_that_ask_for_it(tmp_path, processor, settings, named) -> None:
    said = slow_bfloat16(configure(None, settings), _cpu_info(tmp_path, processor), tmp_path / "no GPU")
    assert said is not None
    assert said.startswith("this processor has no instructions for bfloat16")
    assert said.endswith(f"; {named}")


@pytest.mark.parametrize(
    ("processor", "settings"),
    [
        ("flags\t\t: fpu avx avx2 fma", ()),
        ("flags\t\t: avx2 avx512f avx512dq avx512bw avx512vl", BOTH),
        ("flags\t\t: avx2 amx_bf16", BOTH),
        ("Features\t: fp asimd bf16", BOTH),
        ("model name\t: says nothing of features", BOTH),
    ],
)
def test_nothing_is_said_of_another_processor_or_another_format(tmp_path, processor, settings) -> None:
    assert slow_bfloat16(configure(None, settings), _cpu_info(tmp_path, processor), tmp_path / "no GPU") is None


def test_nothing_is_said_where_a_gpu_computes(tmp_path) -> None:
    assert slow_bfloat16(configure(None, BOTH), _cpu_info(tmp_path, "flags\t\t: avx2"), tmp_path) is None


def _cpu_info(folder: Path, line: str) -> Path:
    file = folder / "cpuinfo"
    file.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    return file
