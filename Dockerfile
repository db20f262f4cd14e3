# Three images of one file:
#
#   docker build --target runner -t specbatch .        torch and all: runs specs, in pods and by docker run --gpus all
#   docker build --target vllm -t specbatch-vllm .     the same with vLLM, for specs whose engine it is
#   docker build --target cli -t specbatch-cli .       the light side: submit, status, why, collect; for CI and pods of one's own
#
# A spec in the current folder, with its data and results, on this machine's GPUs; the volume keeps models and compiled kernels:
#
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/work" -v specbatch-cache:/cache specbatch run spec.yaml
#
# tools/build_images.sh builds both with the base pinned by its digest. CUDA comes with torch's wheels from PyPI (the run-time libraries): the
# node needs the NVIDIA driver and its container toolkit only, and the same image runs on CPUs. Without Docker's daemon: buildah build, the same way.

# A tag, and better a digest: --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:... (what tools/build_images.sh finds out).
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
# The root may be read-only and the user any. What is written goes to /tmp and to what is mounted: the reader's folder at /work, and at /cache
# what is worth keeping. A volume takes over the folder's mode, so whoever runs may write. Pods set their own folder and mount /cache themselves.
ENV PATH=/opt/specbatch/bin:$PATH \
    HOME=/tmp \
    USER=specbatch \
    HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN mkdir -m 1777 /work /cache

FROM base AS build
# A mirror of PyPI: --build-arg PIP_INDEX_URL=https://pypi.tuna.tsinghua.edu.cn/simple
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/specbatch
WORKDIR /src
# Dependencies first: they change less often than the code. An empty package stands in for it.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir specbatch && touch specbatch/__init__.py && pip install -c constraints.txt '.[s3]' && pip uninstall --yes specbatch

FROM build AS build-cli
COPY specbatch specbatch
RUN pip install --no-deps .

FROM build AS build-runner
RUN pip install -c constraints.txt '.[runner,grammar,s3]' && pip uninstall --yes specbatch
COPY specbatch specbatch
RUN pip install --no-deps .

FROM build AS build-vllm
# Without constraints.txt: each release of vLLM pins its torch, and much else.
ARG VLLM=0.32.0
# hadolint ignore=DL3013
RUN pip install "vllm==${VLLM}" '.[runner,s3]' && pip uninstall --yes specbatch
COPY specbatch specbatch
RUN pip install --no-deps .

FROM base AS cli
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="specbatch, command line" \
      org.opencontainers.image.description="Submits, watches, explains and collects batch inference runs on Kubernetes" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/specbatch/specbatch" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-cli /opt/specbatch /opt/specbatch
# A number, not a name: Kubernetes' runAsNonRoot can check it.
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["specbatch"]
CMD ["--help"]

# What both images have that run models.
FROM base AS gpu
# Where GKE's nodes put the driver; elsewhere the container toolkit makes it known by itself.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64
# A mirror of Debian: --build-arg DEBIAN_MIRROR=mirrors.tuna.tsinghua.edu.cn
ARG DEBIAN_MIRROR=deb.debian.org
RUN sed -i "s|deb.debian.org|${DEBIAN_MIRROR}|" /etc/apt/sources.list.d/debian.sources
# Triton builds what launches its kernels when they are first used, with a C compiler; without one a run takes the slower engine, and says so.
# Not pinned: Debian keeps only the newest of each.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

FROM gpu AS vllm
ENV VLLM_CACHE_ROOT=/cache/vllm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="specbatch, runner with vLLM" \
      org.opencontainers.image.description="Batch inference by vLLM behind the runner of specbatch" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/specbatch/specbatch" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-vllm /opt/specbatch /opt/specbatch
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["specbatch"]
CMD ["--help"]

# The last stage is what docker build takes where no target is named.
FROM gpu AS runner
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="specbatch, runner" \
      org.opencontainers.image.description="Batch inference by speculative decoding: exactly the target's own output" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/specbatch/specbatch" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-runner /opt/specbatch /opt/specbatch
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["specbatch"]
CMD ["--help"]
