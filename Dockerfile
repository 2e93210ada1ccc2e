# The image of Kelson, a drop-in for registry:2.
#
#   docker build -t kelson .
#
# RUST_IMAGE  where the program is compiled: any image with Rust and a C compiler
# BASE        what the program is put on: any small image with a shell
#
# Without a network: put a static program into the context as `kelson.static` and give a local
# image for both arguments; then nothing is compiled and nothing fetched (docs/DEPLOYMENT.md).
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG BASE=alpine:3.22

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The target is named so that the flag does not reach build scripts and procedural macros,
# which cannot be static.
RUN if [ ! -f kelson.static ]; then \
        target="$(uname -m)-unknown-linux-gnu" \
        && RUSTFLAGS="-C target-feature=+crt-static" \
            cargo build --release --locked --target "$target" \
        && cp "target/$target/release/kelson" kelson.static; \
    fi \
    && chmod 0755 kelson.static entrypoint.sh

FROM ${BASE}
COPY --from=build /src/kelson.static /bin/kelson
COPY --from=build /src/entrypoint.sh /entrypoint.sh
COPY --from=build /src/docs/image/config.yml /etc/docker/registry/config.yml
# Any user may run it (`--user`): a new volume takes over the mode of this folder.
RUN ln -s kelson /bin/registry \
    && mkdir -p /var/lib/registry \
    && chmod 1777 /var/lib/registry
VOLUME ["/var/lib/registry"]
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["registry", "health"]
ENTRYPOINT ["/entrypoint.sh"]
CMD ["/etc/docker/registry/config.yml"]
