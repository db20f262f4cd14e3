#!/usr/bin/env bash
# Builds the images with docker, the base pinned by the digest that its tag has now. Needs a registry to ask.
#
#   tools/build_images.sh [REPOSITORY]        default: ghcr.io/specbatch; makes REPOSITORY/runner:VERSION, /vllm and /cli
#
# PYTHON_IMAGE chooses another base; one that has a digest is taken as it is, without asking anybody.
set -euo pipefail
cd "$(dirname "$0")/.."

repository=${1:-ghcr.io/specbatch}
base=${PYTHON_IMAGE:-python:3.12-slim-bookworm}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

if [[ $base != *@sha256:* ]]; then
  digest=$(docker buildx imagetools inspect "$base" --format '{{.Manifest.Digest}}')
  [[ $digest == sha256:* ]] || { echo "no digest of $base: $digest" >&2; exit 1; }
  base=$base@$digest
fi
echo "base: $base"
for target in runner vllm cli; do
  docker build --pull --target "$target" --tag "$repository/$target:$version" \
    --build-arg PYTHON_IMAGE="$base" --build-arg VERSION="$version" --build-arg REVISION="$revision" .
  echo "built $repository/$target:$version"
done
