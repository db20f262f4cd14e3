# syntax=docker/dockerfile:1
# The image that runs a spec: docker build -t specbatch .
# A first form, not built in CI yet; the Kubernetes work gives it its final one.
#
# torch comes from PyPI, whose Linux build brings its CUDA libraries; the host needs the NVIDIA driver and its container toolkit only.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/specbatch
ENV PATH=/opt/specbatch/bin:$PATH
WORKDIR /src
# The large layer first: it changes with the dependencies, not with the code. An empty package stands in for the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir specbatch && touch specbatch/__init__.py && pip install -c constraints.txt '.[runner,s3]' && pip uninstall --yes specbatch
COPY specbatch specbatch
RUN pip install --no-deps .

FROM python:${PYTHON}-slim-bookworm
LABEL org.opencontainers.image.title=specbatch org.opencontainers.image.licenses=Apache-2.0
# A number, not a name: Kubernetes' runAsNonRoot can check it.
RUN useradd --uid 10001 --create-home specbatch && install --directory --owner=10001 /results /models
COPY --from=build /opt/specbatch /opt/specbatch
ENV PATH=/opt/specbatch/bin:$PATH HF_HOME=/models PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/specbatch
ENTRYPOINT ["specbatch"]
CMD ["--help"]
