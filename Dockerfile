# The operator: one statically linked program, the public certificate authorities and the names of its user. Nothing to log in to, nothing to write to.
#
#   docker build --tag timetracker-operator .        (or podman, or buildah)
#
# `cargo xtask images operator` runs the last stage of this file with buildah and puts a folder with the program that cargo has just built here in the
# place of the stage "build" (--build-context build=<folder>), so that both ways end in the same image.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# With the target named, the flag does not reach macros, which the compiler has to load.
RUN target="$(rustc --version --verbose | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" --package timetracker-operator --bin timetracker-operator \
    && install -D --mode=0755 "target/$target/release/timetracker-operator" /image/usr/bin/timetracker-operator \
    && install -D --mode=0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && install --directory --mode=1777 /image/tmp

FROM scratch
COPY --from=build /image/ /
COPY dev/images/operator/ /
LABEL org.opencontainers.image.title="timetracker-operator" \
      org.opencontainers.image.source="https://github.com/DRYTRIX/timetracker-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/usr/bin/timetracker-operator"]
