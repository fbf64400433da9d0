# lorc-server and lorc for CPUs on Debian 12. Models and plans are not in the image: mount them at /models.
#   docker build -t lorc-server:0.1.0 .
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY scripts/install_packages.sh scripts/
RUN scripts/install_packages.sh build && rm -rf /var/lib/apt/lists/*
COPY . .
# Compile jobs at once; empty: as many as there are cores.
ARG JOBS=
RUN cmake --preset release -DLORC_BUILD_TESTS=OFF \
 && cmake --build build/release --target lorc-server lorc --parallel ${JOBS} \
 && strip build/release/bin/lorc-server build/release/bin/lorc

FROM debian:bookworm-slim
COPY scripts/install_packages.sh /tmp/
RUN /tmp/install_packages.sh run && rm -rf /var/lib/apt/lists/* /tmp/install_packages.sh
COPY --from=build /src/build/release/bin/lorc-server /src/build/release/bin/lorc /usr/local/bin/
COPY deploy/server.yaml /etc/lorc/server.yaml
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
# Arguments of `docker run` are more flags, and flags win over the file.
ENTRYPOINT ["lorc-server", "--config", "/etc/lorc/server.yaml"]
