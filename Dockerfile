# echo-server in a container.
#
#   docker build --target cpu -t echo-server .
#   docker build --target cuda -t echo-server:cuda .
#
# The program holds the web page and reads TLS roots from itself, so the image is Debian and one file.
# Models are not in the image: the first start fetches ECHO_MODEL into /data/models, or mount yours there.
# PROGRAM names the stage that has the program: `build` compiles it, `prebuilt` takes ./echo-server.

ARG PROGRAM=build

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p echo-server \
    && mv target/release/echo-server /echo-server

FROM nvidia/cuda:12.6.3-devel-ubuntu22.04 AS build-cuda
COPY --from=rust:1.95-slim-bookworm /usr/local/rustup /usr/local/rustup
COPY --from=rust:1.95-slim-bookworm /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY . .
# The capability that candle compiles its own kernels for; Echo's are for 8.0 and 9.0.
ENV CUDA_COMPUTE_CAP=80
RUN cargo build --release --locked -p echo-server --features cuda \
    && mv target/release/echo-server /echo-server

FROM scratch AS prebuilt
COPY echo-server /echo-server

# hadolint ignore=DL3006
FROM ${PROGRAM} AS program

FROM nvidia/cuda:12.6.3-runtime-ubuntu22.04 AS cuda
COPY --from=build-cuda /echo-server /usr/local/bin/echo-server
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin echo \
    && install -d -o echo -g echo /data
ENV HOST=0.0.0.0 PORT=8000 \
    UPLOAD_DIR=/data/uploads \
    DATABASE_URL=sqlite:////data/transcriptions.db \
    ECHO_MODEL_DIR=/data/models \
    ECHO_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["echo-server", "healthcheck"]
ENTRYPOINT ["echo-server"]
CMD ["serve"]

FROM debian:bookworm-slim AS cpu
COPY --from=program /echo-server /usr/local/bin/echo-server
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin echo \
    && install -d -o echo -g echo /data
ENV HOST=0.0.0.0 PORT=8000 \
    UPLOAD_DIR=/data/uploads \
    DATABASE_URL=sqlite:////data/transcriptions.db \
    ECHO_MODEL_DIR=/data/models
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["echo-server", "healthcheck"]
ENTRYPOINT ["echo-server"]
CMD ["serve"]
