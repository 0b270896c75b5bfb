"""The connector's manifests: valid by Kubernetes' own schemas, and what they promise about rights and reach."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from isthmus.cli.connector_run import run_connector_command
from isthmus.connector.run import DRAIN_SECONDS, parse_places

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
HUB_PORTS = {443, 8883, 5671}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    kubernetes_validate.validate(_read(path.name), version, strict=True)


def test_the_kustomization_has_every_file_of_its_namespace() -> None:
    kustomization = _read("kustomization.yaml")
    own = {path.name for path in FILES if _read(path.name)["metadata"].get("namespace") is None}
    assert set(kustomization["resources"]) == own
    assert kustomization["namespace"] == _read("namespace.yaml")["metadata"]["name"]
    assert [image["name"] for image in kustomization["images"]] == [_container()["image"]]


def test_the_pod_has_no_rights_to_speak_of() -> None:
    pod = _read("deployment.yaml")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    security = _container()["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_what_is_written_is_written_to_volumes() -> None:
    """The root is read-only."""
    words = run_connector_command.make_context("run", list(_container()["args"][2:])).params
    mounts = [Path(mount["mountPath"]) for mount in _container()["volumeMounts"]]
    assert Path(words["data"]) in mounts
    assert Path(words["ready_file"]).parent in mounts
    assert words["ready_file"] in _container()["readinessProbe"]["exec"]["command"]
    assert parse_places(words["listen"]).anywhere == "0.0.0.0"


def test_the_words_are_those_of_the_command() -> None:
    assert _container()["args"][:2] == ["connector", "run"]
    variables = {entry["name"] for entry in _container()["env"]}
    token = next(param for param in run_connector_command.params if param.name == "token")
    assert variables == {token.envvar, "HTTPS_PROXY"}


def test_ports_are_the_same_everywhere() -> None:
    listened = {(port["name"], port["containerPort"]) for port in _container()["ports"]}
    service = {(port["targetPort"], port["port"]) for port in _read("service.yaml")["spec"]["ports"]}
    assert service == listened
    policy = _read("network-policy.yaml")["spec"]["ingress"]
    assert {port["port"] for port in policy[0]["ports"]} == HUB_PORTS
    assert {port for _, port in listened} == HUB_PORTS | {53}


def test_the_policy_and_the_service_mean_the_connector() -> None:
    labels = _read("deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert _read("network-policy.yaml")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert _read("service.yaml")["spec"]["selector"].items() <= labels.items()
    assert _read("network-policy.yaml")["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_names_are_asked_of_the_service() -> None:
    block = _read("coredns-custom.yaml")["data"]["isthmus.server"]
    assert f"forward . {_read('service.yaml')['spec']['clusterIP']}\n" in block


def test_the_end_is_given_the_time_it_takes() -> None:
    pod = _read("deployment.yaml")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS


def test_the_image_is_made_of_files_that_are_there() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    assert all((ROOT / name).exists() for names in copied for name in names)
    user = next(line for line in lines if line.startswith("USER "))
    security = _read("deployment.yaml")["spec"]["template"]["spec"]["securityContext"]
    assert user == f"USER {security['runAsUser']}:{security['runAsGroup']}"


def _read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def _container() -> Any:
    [container] = _read("deployment.yaml")["spec"]["template"]["spec"]["containers"]
    return container
