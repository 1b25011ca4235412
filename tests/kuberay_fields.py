"""The fields of KubeRay's resources that our manifests may use, as JSON schemas.

Written after the `json:` tags of `ray-operator/apis/ray/v1/*_types.go` of KubeRay 1.5: every field of
a spec is named, with the type that the API server checks. Pod templates are left open here: they
are Kubernetes' own and are checked with its published schemas.
"""

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
FLAG, OPEN = {"type": "boolean"}, {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
COUNT = {"type": "integer", "minimum": 0}


def record(required=(), **fields):
    """An object with these fields and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": fields,
        "additionalProperties": False,
    }


TEMPLATE = record(["spec"], metadata=OPEN, spec=OPEN)
HEAD = record(
    ["rayStartParams", "template"],
    template=TEMPLATE,
    headService=OPEN,
    enableIngress=FLAG,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
)
WORKERS = record(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    suspend=FLAG,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=TEMPLATE,
    scaleStrategy=record(workersToDelete={"type": "array", "items": TEXT}),
    numOfHosts=COUNT,
)
CLUSTER = record(
    ["headGroupSpec"],
    authOptions=record(mode={"enum": ["disabled", "token"]}),
    suspend=FLAG,
    managedBy=TEXT,
    autoscalerOptions=record(
        resources=OPEN,
        image=TEXT,
        imagePullPolicy=TEXT,
        securityContext=OPEN,
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        version={"enum": ["v1", "v2"]},
        env={"type": "array"},
        envFrom={"type": "array"},
        volumeMounts={"type": "array"},
    ),
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=OPEN,
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = record(
    activeDeadlineSeconds=WHOLE,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=TEMPLATE,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=record(backoffLimit=COUNT),
    managedBy=TEXT,
    deletionStrategy=OPEN,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)
SERVICE = record(
    upgradeStrategy=OPEN,
    serveService=OPEN,
    serveConfigV2=TEXT,
    rayClusterConfig=CLUSTER,
    excludeHeadPodFromServeSvc=FLAG,
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB, "RayService": SERVICE}


def resource(kind):
    """The schema of a whole resource of this kind."""
    name = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
    return record(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=record(["name"], name=name, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
        spec=SPECS[kind],
    )
