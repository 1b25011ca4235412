"""deploy/kuberay: fields that KubeRay and Kubernetes know, and the promises of the comments."""

import copy
import json
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from kuberay_fields import resource

from metro_ray.cluster.resources import NodeResources, plan_resources
from metro_ray.config.cli import parse_train
from metro_ray.serve.settings import read_args

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
RAY_RESOURCES = ["raycluster.yaml", "rayjob.yaml", "rayservice.yaml"]
PLAIN_RESOURCES = ["storage.yaml", "network-policy.yaml"]


def read(name):
    [document] = list(yaml.safe_load_all((FOLDER / name).read_text()))
    return document


def cluster_of(document):
    spec = document["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def templates(document):
    cluster = cluster_of(document)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def problems(document):
    """What KubeRay's or Kubernetes' schema says against it."""
    schema = resource(document["kind"])
    found = [error.message for error in Draft202012Validator(schema).iter_errors(document)]
    version = kubernetes_validate.latest_version()
    for template in templates(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
        try:
            kubernetes_validate.validate(pod, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(error.message)
    return found


def test_every_manifest_is_looked_at():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(RAY_RESOURCES + PLAIN_RESOURCES)


@pytest.mark.parametrize("name", RAY_RESOURCES)
def test_its_fields_are_known(name):
    assert problems(read(name)) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("replicsa", 1, "replicsa"),
        ("minReplicas", "one", "'one' is not of type 'integer'"),
        ("rayStartParams", {"num-cpus": 0}, "0 is not of type 'string'"),
    ],
)
def test_a_mistake_in_a_group_is_found(place, value, words):
    document = read("raycluster.yaml")
    cluster_of(document)["workerGroupSpecs"][0][place] = value
    assert words in "\n".join(problems(document))


def test_a_mistake_in_a_pod_is_found():
    document = read("rayjob.yaml")
    broken = copy.deepcopy(document)
    templates(broken)[1]["spec"]["containers"][0]["volumeMount"] = []
    assert "volumeMount" in "\n".join(problems(broken))
    broken = copy.deepcopy(document)
    templates(broken)[1]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = [1]
    assert problems(broken)


@pytest.mark.parametrize("name", PLAIN_RESOURCES)
def test_kubernetes_accepts_what_is_its_own(name):
    kubernetes_validate.validate(read(name), kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", RAY_RESOURCES)
def test_every_cluster_has_a_token_unprivileged_pods_and_shared_storage(name):
    document = read(name)
    cluster = cluster_of(document)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in pinned
    claim = read("storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    selector = read("network-policy.yaml")["spec"]["podSelector"]["matchLabels"]
    for template in templates(document):
        pod = template["spec"]
        assert selector.items() <= template["metadata"]["labels"].items()
        assert pod["securityContext"]["runAsNonRoot"] is True
        claims = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
        assert {"claimName": claim["metadata"]["name"]} in claims
        names = {volume["name"] for volume in pod["volumes"]}
        [container] = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= names
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_job_says_what_the_job_understands_and_its_machines_have_the_ranks():
    document = read("rayjob.yaml")
    python, script, *argv = shlex.split(document["spec"]["entrypoint"])
    assert (python, script) == ("python", "/opt/metro_ray/jobs/train_body.py")
    config = parse_train("body", argv)
    [group] = cluster_of(document)["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    node = NodeResources(float(limits["cpu"]), float(limits["nvidia.com/gpu"]))
    wanted = config.scaling.train_workers
    assert plan_resources([node] * group["maxReplicas"], config).train_workers == wanted
    assert group["minReplicas"] == 0
    assert config.scaling.wait_for_machines_s > 0  # nobody else would ask for machines


def test_the_service_serves_what_serve_configs_body_serves():
    served = yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"])
    ours = yaml.safe_load((ROOT / "serve_configs" / "body.yaml").read_text())
    [application], [expected] = served["applications"], ours["applications"]
    assert application["import_path"] == expected["import_path"]
    settings = read_args(application["args"])
    theirs, mine = application["args"]["body"], dict(expected["args"]["body"])
    assert theirs.pop("checkpoint").startswith("/shared/")
    mine.pop("checkpoint")
    assert theirs == mine
    assert settings.access.keys_file is not None
    mounts = templates(read("rayservice.yaml"))[1]["spec"]["containers"][0]["volumeMounts"]
    folder = str(Path(settings.access.keys_file).parent)
    assert folder in [mount["mountPath"] for mount in mounts]


def test_no_secret_is_written_down():
    for path in FOLDER.iterdir():
        text = json.dumps(yaml.safe_load(path.read_text()))
        assert "RAY_AUTH_TOKEN" not in text
        assert "AWS_SECRET" not in text
