# The agent: one statically linked program, and git with the public certificate authorities, which it calls.
#
#   docker build --file dev/images/agent.Dockerfile --tag timetracker-agent .
#
# `cargo xtask images agent` runs the last stage of this file with buildah. In the place of the stage "build" it puts a folder with the program that cargo
# has just built here, in the place of "base" the packages of dev/images/debian.toml.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN target="$(rustc --version --verbose | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" --package timetracker-operator --bin timetracker-agent \
    && install -D --mode=0755 "target/$target/release/timetracker-agent" /image/usr/bin/timetracker-agent

FROM docker.io/library/debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home timetracker

FROM base
COPY --from=build /image/ /
LABEL org.opencontainers.image.title="timetracker-agent" \
      org.opencontainers.image.source="https://github.com/DRYTRIX/timetracker-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV HOME=/home/timetracker
WORKDIR /home/timetracker
USER 1000:1000
ENTRYPOINT ["/usr/bin/timetracker-agent"]
