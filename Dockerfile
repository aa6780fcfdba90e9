# SPDX-License-Identifier: Apache-2.0
# The image of sidecar and operator: one image, so that a sidecar is always of the version of the operator that injected it.
#
#   docker build -t outrigger .                    sidecar, operator, command
#   docker build -t outrigger-dpdk --target dpdk . the same with DPDK, RDMA and their drivers
#
# Build arguments: BUILD_IMAGE (a Debian or Ubuntu with apt), RUN_IMAGE (below the file system: scratch), REVISION (the commit, for the label),
# SOURCE_DATE_EPOCH (its time, for the bill of materials).
# `make image` makes the same file system as an OCI archive without a container engine, and reads its configuration from here: docs/image.md.
ARG BUILD_IMAGE=debian:bookworm
ARG RUN_IMAGE=scratch
ARG VERSION=0.1.0
ARG REVISION=
ARG SOURCE_DATE_EPOCH=0

FROM ${BUILD_IMAGE} AS tools
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
# What sets the machine up, and no more: what is installed stays until one of these changes.
COPY scripts/setup scripts/apt-packages.txt ./scripts/
COPY package.json package-lock.json .npmrc ./
RUN scripts/setup build

FROM tools AS build
ARG SOURCE_DATE_EPOCH
COPY . .
RUN make image-root

FROM tools AS tools-dpdk
RUN apt-get update && apt-get install -y --no-install-recommends \
      libdpdk-dev librte-meta-net librte-meta-mempool librte-meta-bus libibverbs-dev ibverbs-providers

FROM tools-dpdk AS build-dpdk
ARG SOURCE_DATE_EPOCH
COPY . .
RUN make image-root IMAGE_VARIANT=dpdk

FROM ${RUN_IMAGE} AS run
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.description="A messaging sidecar for Kubernetes, and its operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH="/usr/bin" NODE_ENV="production"
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM
# init is PID 1, driver and sidecar are its children. The operator: --entrypoint /usr/bin/node, /usr/lib/outrigger/build/ts/operator/src/main.js
ENTRYPOINT ["/usr/bin/outrigger-init"]
CMD ["--driver", "/usr/bin/outrigger-driver", "--sidecar", "/usr/bin/node", "/usr/lib/outrigger/build/ts/sidecar/src/main.js"]

FROM run AS dpdk
COPY --from=build-dpdk /src/build/image/outrigger-dpdk-root/ /

FROM run AS outrigger
COPY --from=build /src/build/image/outrigger-root/ /
