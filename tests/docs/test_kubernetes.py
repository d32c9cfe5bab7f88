"""The manifest for Kubernetes: every document is of the API's schema, its commands are ours, and its parts name each other rightly."""

from __future__ import annotations

import copy
import json
import re
import shlex

import pytest
import yaml
from typer.main import get_command

from graph.settings.config import Config
from graph.settings.configure import with_overrides
from tests.support.paths import ROOT
from trainer import gasp

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with vLLM, see requirements.vllm.lock")
FILE = ROOT / "configs" / "kubernetes.yaml"
DOCUMENTS = list(yaml.safe_load_all(FILE.read_text()))
SCHEMA = json.loads((ROOT / "tests" / "support" / "kubernetes-1.37.json").read_text())
"""Kubernetes 1.37, without the kinds that the manifest does not have; what the API does not know is an error."""
PACKAGES = {
    "v1": "io.k8s.api.core.v1",
    "apps/v1": "io.k8s.api.apps.v1",
    "batch/v1": "io.k8s.api.batch.v1",
    "networking.k8s.io/v1": "io.k8s.api.networking.v1",
}
COMMANDS = {command.name: command for commands in gasp.GROUPS.values() for command in commands}


def check(document: dict) -> None:
    schema = {"$ref": f"#/$defs/{PACKAGES[document['apiVersion']]}.{document['kind']}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(document)


def of_kind(*kinds: str) -> list[dict]:
    return [document for document in DOCUMENTS if document["kind"] in kinds]


def containers() -> list[dict]:
    pods = [document["spec"]["template"]["spec"] for document in of_kind("StatefulSet", "Job")]
    return [container for pod in pods for container in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_a_document_is_of_the_apis_schema(document):
    check(document)
    wrong = copy.deepcopy(document)
    wrong["spec"]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        check(wrong)


def words_of(container: dict) -> list[list[str]]:
    """The `gasp` commands of a container."""
    command = container.get("command", [])
    if command[:1] == ["gasp"]:
        return [command[1:]]
    lines = re.findall(r"exec gasp (.*?)(?:; fi)?$", command[-1].replace("\\\n", " "), re.MULTILINE) if command else []
    return [shlex.split(line) for line in lines]


def test_every_command_is_ours_and_its_settings_are_those_of_a_run():
    commands = [words for container in containers() for words in words_of(container)]
    assert sorted(words[0] for words in commands) == ["run", "run", "run", "serve"]
    for name, *words in commands:
        context = get_command(gasp.application(COMMANDS[name])).make_context(name, list(words))
        if overrides := context.params.get("overrides"):
            config = with_overrides(Config(), overrides)
    players = next(document["spec"] for document in of_kind("Job") if document["metadata"]["name"] == "gasp-players")
    assert players["parallelism"] == players["completions"] == config.play.shares - 1
    servers = next(document for document in of_kind("StatefulSet") if document["metadata"]["name"] == "gasp-vllm")
    name, service = servers["metadata"]["name"], servers["spec"]["serviceName"]
    assert config.serve.urls == tuple(f"http://{name}-{number}.{service}:8000" for number in range(servers["spec"]["replicas"]))


def test_the_parts_find_each_other():
    selected = [document["spec"]["selector"] for document in of_kind("Service")]
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in of_kind("StatefulSet", "Job")]
    assert all(selector in labels for selector in selected)
    assert all(document["spec"]["selector"]["matchLabels"] in labels for document in of_kind("StatefulSet"))
    keys = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for container in containers()
        for variable in container.get("env", ())
        if "valueFrom" in variable
    }
    told = set(re.findall(r"--from-literal=(\w+)=", FILE.read_text()))
    assert keys == told == {"PGPASSWORD", "VLLM_API_KEY"}
    for document in of_kind("StatefulSet", "Job"):
        pod = document["spec"]["template"]["spec"]
        volumes = {
            volume["name"]
            for volume in (
                *pod.get("volumes", ()),
                *({"name": claim["metadata"]["name"]} for claim in document["spec"].get("volumeClaimTemplates", ())),
            )
        }
        mounted = {
            mount["name"]
            for container in (*pod.get("initContainers", ()), *pod["containers"])
            for mount in container.get("volumeMounts", ())
        }
        assert mounted == volumes
