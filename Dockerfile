# The package with everything it needs, for every node of a cluster and for jobs alone.
#
#   docker build --target cuda -t REGISTRY/metro-ray:cuda .     # GPU nodes
#   docker build --target cpu -t REGISTRY/metro-ray:cpu .       # heads, CPU nodes, laptops
#   docker run --rm --shm-size 4g -v $PWD/runs:/home/metro/runs REGISTRY/metro-ray:cpu \
#       metro-ray train body --preset demo --run.output_dir /home/metro/runs/demo
#
# Both are one recipe; they differ in the index that PyTorch comes from. Its wheels bring CUDA's
# libraries: the image needs no CUDA of its own, the machine needs NVIDIA's driver and container
# toolkit. No secret belongs into an image: the token comes at run time (RAY_AUTH_TOKEN).

ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0
# OpenCV wants libgl1 and libglib2.0-0; the launchers of Ray want rsync and ssh; KubeRay's probes wget.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        libgl1 libglib2.0-0 openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 metro
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /home/metro

FROM base AS cpu-torch
COPY constraints.txt /tmp/constraints.txt
RUN pip install --index-url https://download.pytorch.org/whl/cpu \
        "$(grep --extended-regexp '^torch==' /tmp/constraints.txt)"

FROM base AS cuda-torch
COPY constraints.txt /tmp/constraints.txt
RUN pip install "$(grep --extended-regexp '^torch==' /tmp/constraints.txt)"

FROM cpu-torch AS cpu
COPY --chown=metro . /opt/metro_ray
RUN pip install -c /opt/metro_ray/constraints.txt "/opt/metro_ray[all]"
USER 1000
CMD ["metro-ray", "--help"]

FROM cuda-torch AS cuda
COPY --chown=metro . /opt/metro_ray
RUN pip install -c /opt/metro_ray/constraints.txt "/opt/metro_ray[all]"
USER 1000
CMD ["metro-ray", "--help"]
