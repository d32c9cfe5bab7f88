"""`python -m roles.serve`: vLLM servers by hand, for as long as the command runs.

Guarantees: nothing is left of the servers when it ends, by whatever cause; and nobody on this machine uses them without the
key.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from events.cli.app import run_app
from events.facts.errors import BadInput
from events.process import shutdown
from events.process.console import detachable_console
from events.text.safe_text import markup, one_line
from roles.questions.pocket_folders import POCKET_FOLDERS

if TYPE_CHECKING:
    from roles.serving.command import ServingConfig
    from roles.serving.fleet import Fleet

_KEY_VARIABLE = "VLLM_API_KEY"
_PROGRESS_INTERVAL_S = 10.0
"""Seconds between lines of progress without a terminal."""

HELP = """Serve a model with vLLM (OpenAI's protocol), until Ctrl-C.

MODEL is a folder in Hugging Face format, or `pocket`, `pocket2` or `pocket3`, which ship with the project. Servers listen on
127.0.0.1, and every request must bring a key: that in VLLM_API_KEY, or a new one that only you can read. When this command
ends, even by kill -9, so do they. See docs/serving.md.

- `gasp serve pocket` serves the pocket model on a free port

- `gasp serve ~/Qwen2.5-Coder-7B --replicas 4 --dtype bfloat16 --port 8000` one server on each of four GPUs

- `gasp serve ~/Qwen2.5-Coder-7B --tensor-parallel 2 --devices 0,1` one server on two GPUs
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(help=HELP, no_args_is_help=True)
def main(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of the model, or a name of shipped weights.")],
    name: Annotated[str, typer.Option(help="What requests call it; the folder's name by default.")] = "",
    replicas: Annotated[int, typer.Option(min=1, help="Servers with the same weights (data parallelism).")] = 1,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs of one server.")] = 1,
    devices: Annotated[str, typer.Option(metavar="0,1,..", help="GPUs, assigned in turn; by default all visible ones.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the first server, the others follow; 0: free ones.")] = 0,
    host: Annotated[
        Literal["127.0.0.1", "0.0.0.0"],  # noqa: S104  # on request, and with a key
        typer.Option(help="Where they listen; 0.0.0.0: to other machines, too, who need the key in VLLM_API_KEY."),
    ] = "127.0.0.1",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Of weights and computation.")] = "float32",
    gpu_memory: Annotated[float, typer.Option(min=0.01, max=1, help="Share of a GPU's memory.")] = 0.9,
    kv_cache_gib: Annotated[float, typer.Option(min=0.01, help="GiB of key-value cache, on a CPU.")] = 1.0,
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of each; 0: OMP_NUM_THREADS, else its share of the cores.")
    ] = 0,
    context: Annotated[int, typer.Option(min=0, help="Most tokens of prompt and completion; 0: the model's own limit.")] = 0,
    lora_rank: Annotated[int, typer.Option(min=0, help="Highest rank of adapters that may be loaded; 0: none.")] = 0,
    sleep: Annotated[bool, typer.Option("--sleep", help="Let them release their GPU's memory on request.")] = False,
    start_s: Annotated[float, typer.Option(min=1, help="Seconds that a starting one may be silent and idle.")] = 900.0,
    logs: Annotated[Path, typer.Option(help="Folder for their logs.")] = Path("runs/serve"),
) -> None:
    """Put the settings together, then serve."""
    from roles.serving.command import ServingConfig

    folder = POCKET_FOLDERS[model] / "weights" if model in POCKET_FOLDERS else Path(model)
    serving = ServingConfig(
        weights=folder,
        name=name or (model if model in POCKET_FOLDERS else folder.resolve().name),
        logs=logs,
        replicas=replicas,
        tensor_parallel=tensor_parallel,
        devices=devices,
        dtype=dtype,
        gpu_memory=gpu_memory,
        kv_cache_gib=kv_cache_gib,
        threads=threads or _default_threads(model, replicas),
        context=context,
        rank=lora_rank,
        sleep=sleep,
        start_s=start_s,
        host=host,
        port=port,
        key=_key_from_environment(host),
    )
    with suppress(asyncio.CancelledError):
        shutdown.run(_serve(serving))


def _default_threads(model: str, replicas: int) -> int:
    """CPU threads of each server: more than one would slow down a model as small as the pocket model."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads):
        return int(threads)
    return 1 if model in POCKET_FOLDERS else max(1, len(os.sched_getaffinity(0)) // replicas)


def _key_from_environment(host: str) -> str:
    key = os.environ.get(_KEY_VARIABLE, "")
    if host != "127.0.0.1" and len(key) < 16:
        raise BadInput(
            f"Other machines need the servers' key; set {_KEY_VARIABLE} to the same 16 characters or more everywhere."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadInput(
            f"The key in {_KEY_VARIABLE} cannot be sent in a header; use letters and digits, or unset it for a new one."
        )
    return key


async def _serve(serving: ServingConfig) -> None:
    from roles.serving.fleet import start_fleet

    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    loop.add_signal_handler(signal.SIGHUP, task.cancel)
    console = detachable_console()
    with console.status("") as status:
        printed = -_PROGRESS_INTERVAL_S

        def progress(seconds: float, line: str) -> None:
            nonlocal printed
            text = f"{serving.name} is loading, {seconds:.0f} s" + f": {line}" * bool(line)
            if console.is_terminal:
                status.update(markup(text, console.width - 4))
            elif seconds - printed >= _PROGRESS_INTERVAL_S:
                printed = seconds
                console.print(markup(text), soft_wrap=True)

        fleet = await start_fleet(serving, progress)
    try:
        console.print(_usage_text(fleet, serving), markup=False, highlight=False, soft_wrap=True)
        while True:
            fleet.check()
            await asyncio.sleep(0.5)
    finally:
        await asyncio.shield(fleet.close())
        console.print("The servers have ended.")


def _usage_text(fleet: Fleet, serving: ServingConfig) -> str:
    key = f"in {_KEY_VARIABLE}"
    if not serving.key:
        file = fleet.folder / "key"
        file.write_text(fleet.key)
        key = f'export {_KEY_VARIABLE}="$(cat {file})"'
    body = json.dumps({"model": serving.name, "prompt": "def f(x):", "max_tokens": 16})
    urls = json.dumps(list(fleet.urls))
    return "\n".join(
        [
            f"{one_line(serving.name)} is served until Ctrl-C:",
            *(f"  {server.url}   log: {server.log}" for server in fleet.servers),
            f"key:       {key}",
            f'try:       curl {fleet.urls[0]}/v1/completions -H "Authorization: Bearer ${_KEY_VARIABLE}" '
            f"-H 'Content-Type: application/json' -d '{body}'",
            f"in a run:  --set serve.backend=vllm --set 'serve.urls={urls}'",
        ]
    )


if __name__ == "__main__":
    run_app(app)
