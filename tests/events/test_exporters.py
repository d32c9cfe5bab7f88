"""Exports for TensorBoard, W&B, MLflow and OpenTelemetry, read back by their own means."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

from events.export import load_exporter
from events.export.metrics import MetricPoint, run_curves
from events.facts.errors import BadInput, LogError
from events.facts.values import Sampling
from events.stores import open_log
from events.stores.raw import Store
from tests.support.example_runs import example_run, question
from tests.support.paths import ROOT

SECRET = "open-sesame-1001"
FORMATS = ("tensorboard", "wandb", pytest.param("mlflow", marks=pytest.mark.slow), "otel")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two iterations with a failed episode and a secret in its settings."""
    folder = tmp_path_factory.mktemp("runs") / "run-007"
    folder.mkdir()
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        tale = example_run(log).run(seed=3, model="/home/me/models/pocket", server={"api_key": SECRET}).goalpost(2).evaluate()
        tale.start(4).episode(rejected=["too_hard"]).episode(lift=None).fail(f"no answer from {SECRET}").practice().finish()
        tale.update().evaluate().play().update().evaluate().end()
    return folder


@pytest.fixture
def log(run: Path) -> Iterator[Store]:
    with closing(open_log(run / "log.sqlite")) as log:
        yield log


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the run is exported to in a format, once for all tests that only look."""

    @cache
    def write(to: str) -> Path:
        out = tmp_path_factory.mktemp("exports") / to
        with closing(open_log(run / "log.sqlite")) as log:
            load_exporter(to)(log, out, name=run.name)
        return out

    return write


def flat(points: list[MetricPoint]) -> dict[tuple[str, int], float]:
    return {(name, point.step): value for point in points for name, value in point.values.items()}


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_tensorboard_reads_every_point_at_its_time(log: Store, written) -> None:
    read = EventAccumulator(str(written("tensorboard"))).Reload()
    values = {(tag, scalar.step): scalar for tag in read.Tags()["scalars"] for scalar in read.Scalars(tag)}
    points = list(run_curves(log).points)
    assert {place: scalar.value for place, scalar in values.items()} == pytest.approx(flat(points))
    assert [scalar.wall_time for scalar in read.Scalars("gap")] == [
        point.time.timestamp() for point in points if "gap" in point.values
    ]


def test_tensorboard_reads_settings_as_text_and_as_hyperparameters(written) -> None:
    read = EventAccumulator(str(written("tensorboard"))).Reload()
    (text,) = read.Tensors("settings")
    assert b"| seed | 3 |" in text.tensor_proto.string_val[0]
    about = HParamsPluginData.FromString(read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    assert about.session_start_info.hparams["seed"].number_value == 3
    assert about.session_start_info.group_name == "run-007"


def records(file: Path) -> Iterator[Record]:
    """What a `.wandb` file holds: blocks of 32 kB with records, cut where a block ends (LevelDB's log format)."""
    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def test_wandb_keeps_every_point_and_setting_in_an_offline_run(log: Store, written) -> None:
    (file,) = (written("wandb") / "wandb").glob("offline-run-*/run-*.wandb")
    kept = list(records(file))
    (started,) = (record.run for record in kept if record.HasField("run"))
    assert (started.project, started.display_name) == ("gasp", "run-007")
    assert {field.key: json.loads(field.value_json) for field in started.config.update}["seed"] == 3
    rows = [
        {field.nested_key[0]: json.loads(field.value_json) for field in kept_record.history.item}
        for kept_record in kept
        if kept_record.history.item
    ]
    points = list(run_curves(log).points)
    assert [row["_timestamp"] for row in rows] == pytest.approx([point.time.timestamp() for point in points])
    ours = [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
    assert ours == [{"iteration": point.step, **point.values} for point in points]


def test_wandb_gives_a_run_the_same_id_again(log: Store, tmp_path: Path, written) -> None:
    load_exporter("wandb")(log, tmp_path / "again", name="run-007")
    first, second = (next(place.rglob("*.wandb")) for place in (written("wandb"), tmp_path))
    assert first.name == second.name


@pytest.mark.slow
def test_mlflow_reads_every_point_and_setting(log: Store, written) -> None:
    place = written("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
    experiment = client.get_experiment_by_name("gasp")
    assert experiment is not None
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.run_name, kept.info.status, kept.data.params["seed"]) == ("run-007", "FINISHED", "3")
    points = list(run_curves(log).points)
    history = [point for name in kept.data.metrics for point in client.get_metric_history(kept.info.run_id, name)]
    assert {(point.key, point.step): point.value for point in history} == flat(points)
    assert kept.info.end_time == round(points[-1].time.timestamp() * 1000)


def spans(file: Path) -> list[list[dict[str, object]]]:
    """Traces of a file, their spans with attributes as plain values."""
    spans_sent = []
    for line in file.read_text(encoding="utf-8").splitlines():
        (resource,) = json.loads(line)["resourceSpans"]
        (scope,) = resource["scopeSpans"]
        for span in scope["spans"]:
            span["attributes"] = {attribute["key"]: plain(attribute["value"]) for attribute in span["attributes"]}
        spans_sent.append(scope["spans"])
    return spans_sent


def plain(value: dict[str, object]) -> object:
    if "arrayValue" in value:
        return [plain(inner) for inner in value["arrayValue"]["values"]]
    ((kind, bare),) = value.items()
    return int(bare) if kind == "intValue" else bare


@pytest.fixture
def traces(written) -> list[list[dict[str, object]]]:
    return spans(written("otel") / "traces.jsonl")


def test_every_ended_episode_is_a_trace_whose_spans_hang_under_its_own(log: Store, traces) -> None:
    streams = [event.stream for event in log.read(kinds=("episode_finished", "episode_failed"))]
    assert [trace[-1]["attributes"]["gasp.stream"] for trace in traces] == streams
    for trace in traces:
        root = trace[-1]
        assert "parentSpanId" not in root
        assert {span["parentSpanId"] for span in trace[:-1]} == {root["spanId"]}
        assert len({span["traceId"] for span in trace}) == 1
        assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in trace)
        assert (len(root["traceId"]), len(root["spanId"])) == (32, 16)
    every = [span["spanId"] for trace in traces for span in trace]
    assert len(set(every)) == len(every)


def test_spans_follow_the_genai_conventions(log: Store, traces) -> None:
    first = traces[0]
    assert [span["name"] for span in first][:3] == ["text_completion pocket", "execute_tool verifier", "text_completion pocket"]
    assert first[-1]["name"] == "invoke_workflow gasp"
    made = next(event.fact for event in log.read("episode/00001/000", kinds=("attempts_made",)))
    attributes = first[0]["attributes"]
    assert (attributes["gen_ai.operation.name"], attributes["gen_ai.agent.name"]) == ("text_completion", "solver")
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.request.choice.count"]) == ("pocket", 10)
    assert attributes["gen_ai.response.model"] == f"pocket@{made.generation.policy[:12]}"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (6, made.generation.length)
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"] * 10
    agents = {span["attributes"].get("gen_ai.agent.name") for trace in traces for span in trace} - {None}
    assert agents == {"solver", "teacher_easy", "teacher_hard"}
    assert [moment["name"] for moment in first[-1]["events"]][:2] == ["gap_measured", "question_rejected"]


def test_a_failed_episode_is_an_error_of_its_class(traces) -> None:
    (failed,) = [trace[-1] for trace in traces if trace[-1]["status"]]
    assert failed["status"] == {"code": 2}
    assert failed["attributes"]["error.type"] == "SandboxError"


def test_an_episode_that_goes_on_is_not_told(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        example_run(log).run().start(2).practice().open(question(), "practice")
        load_exporter("otel")(log, tmp_path / "out", name="run")
    assert len(spans(tmp_path / "out" / "traces.jsonl")) == 1


def test_completions_that_were_cut_say_so(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        example_run(log, sampling=Sampling(max_tokens=8)).run().goalpost().start(1).practice(attempts=40).finish()
        load_exporter("otel")(log, tmp_path / "out", name="run")
    reasons = spans(tmp_path / "out" / "traces.jsonl")[0][0]["attributes"]["gen_ai.response.finish_reasons"]
    assert set(reasons) == {"stop", "length"}


def test_traces_of_a_log_are_the_same_again(log: Store, tmp_path: Path, written) -> None:
    load_exporter("otel")(log, tmp_path / "again", name="run-007")
    assert content(tmp_path / "again") == content(written("otel"))


@contextmanager
def collector(status: int = 200) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An OTLP/HTTP endpoint: its URL, and the headers and bodies that it was sent."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_traces_are_sent_to_the_collector_that_the_environment_names(log: Store, tmp_path: Path, monkeypatch) -> None:
    with collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization={SECRET}")
        message = load_exporter("otel")(log, tmp_path / "out", name="run-007")
    assert "sent" in message
    assert {(sent["path"], sent["content-type"], sent["authorization"]) for sent, _ in received} == {
        ("/v1/traces", "application/x-protobuf", SECRET)
    }
    sent = [ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans for _, body in received]
    kept = spans(tmp_path / "out" / "traces.jsonl")
    assert [[span.span_id.hex() for span in trace] for trace in sent] == [[span["spanId"] for span in trace] for trace in kept]


def test_a_collector_that_refuses_is_an_error_and_leaves_nothing(log: Store, tmp_path: Path, monkeypatch) -> None:
    with collector(status=400) as (url, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{url}/v1/traces")
        with pytest.raises(LogError, match="not taken by the collector"):
            load_exporter("otel")(log, tmp_path / "out", name="run-007")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_no_secret_and_no_text_of_the_run_is_exported(written, to: str) -> None:
    exported = content(written(to))
    assert (b"server.api_key" in exported) == (to != "otel")
    assert SECRET.encode() not in exported
    assert b"Add 1000" not in exported


@pytest.mark.parametrize("to", ["wandb", pytest.param("mlflow", marks=pytest.mark.slow)])
def test_nothing_is_sent_whatever_the_environment_says(run: Path, tmp_path: Path, to: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {"WANDB_MODE": "online", "WANDB_BASE_URL": url, "WANDB_API_KEY": "ab12" * 10, "MLFLOW_TRACKING_URI": url}
        # Either library is quieter under a test runner.
        inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
        proxies = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": ""}
        command = [sys.executable, "-m", "events", "export", run, "--to", to, "--out", tmp_path / "out"]
        subprocess.run(command, env={**inherited, **environment, **proxies}, check=True, cwd=ROOT, capture_output=True)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert b"ab12" * 10 not in content(tmp_path / "out")


@pytest.mark.parametrize(
    ("to", "module"),
    [
        ("tensorboard", "tensorboard.compat.proto.event_pb2"),
        ("wandb", "wandb"),
        ("mlflow", "mlflow"),
        ("otel", "opentelemetry.sdk.trace.export"),
    ],
)
def test_a_missing_package_names_the_extra_that_installs_it(log: Store, tmp_path: Path, monkeypatch, to, module) -> None:
    monkeypatch.delitem(sys.modules, f"events.export.{to}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=rf"pip install 'gasp\[{to}\]'"):
        load_exporter(to)(log, tmp_path / "out", name="run-007")


@pytest.mark.parametrize("to", FORMATS)
def test_what_exists_is_not_overwritten(log: Store, tmp_path: Path, to: str) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="is not empty"):
        load_exporter(to)(log, tmp_path, name="run-007")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("to", ["otel", pytest.param("mlflow", marks=pytest.mark.slow)])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(log: Store, small_disk: Path, to: str) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 500_000)
    with pytest.raises(LogError, match=r"^The export .* cannot be written \(.*\); name another folder with --out.$"):
        load_exporter(to)(log, small_disk / "out", name="run-007")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
