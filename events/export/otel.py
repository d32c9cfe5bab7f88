"""Traces of OpenTelemetry: a file with OTLP as JSON lines, also sent to a collector that the environment names.

Guarantees: nothing is sent unless OTEL_EXPORTER_OTLP_ENDPOINT, or the variable for traces, is set. Headers and certificates
come from OpenTelemetry's own variables, so that no secret is on a command line.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from events.export import atomic_folder
from events.export.spans import traces
from events.facts.errors import LogError
from events.stores.raw import Store

FILE = "traces.jsonl"
"""The file in the export's folder."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that name a collector."""


def write(log: Store, out: Path, *, name: str) -> str:
    """Write a file with a trace a line, and send every trace if a collector is named. See `events.export.Exporter`."""
    collector = OTLPSpanExporter() if any(map(os.environ.get, ENDPOINTS)) else None
    number = 0
    with atomic_folder(out) as folder, (folder / FILE).open("w", encoding="utf-8") as file:
        for number, spans in enumerate(traces(log, name), 1):
            file.write(_line(spans))
            if collector is not None and collector.export(spans) is not SpanExportResult.SUCCESS:
                failure = f"Trace {number} was not taken by the collector"
                raise LogError(f"{failure}; check it and the OTEL_EXPORTER_OTLP_ variables.")
    return f"{number} traces of {name} to {out / FILE}{', and sent them' if collector else ''}"


def _line(spans: Sequence[ReadableSpan]) -> str:
    data: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for span in (span for resource in data["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]):
        # OTLP writes ids in hexadecimal, unlike the JSON of protobuf.
        for key in {"traceId", "spanId", "parentSpanId"} & span.keys():
            span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(data) + "\n"
