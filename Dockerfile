# hearth itself. (The images that functions run in are built from runtimes/*/Dockerfile by hearth.)
#
#   docker build -t hearth .

ARG RUST_IMAGE=rust:1-slim-trixie
ARG BASE_IMAGE=debian:trixie-slim

# By itself: it changes with other files than the program does. What scripts/dashboard.sh built already is taken as it is.
FROM ${BASE_IMAGE} AS dashboard
WORKDIR /src
COPY dashboard ./
RUN if [ ! -e dist/assets.txt ]; then \
        apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm ca-certificates >/dev/null \
        && npm ci --no-audit --no-fund && node build.mjs; \
    fi

FROM ${RUST_IMAGE} AS build
ARG PROFILE=release
WORKDIR /src
# The dependencies first, against empty sources: a change of the sources builds only the sources.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY tests tests
COPY fuzz fuzz
RUN mkdir -p src dashboard/dist && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && cargo build --locked --profile ${PROFILE} --bin hearth && rm -r src
COPY config config
COPY build.rs build.rs
COPY --from=dashboard /src/dist dashboard/dist
COPY src src
# The copies are older than what was just built, and cargo looks at times.
RUN touch src/lib.rs src/main.rs \
 && cargo build --locked --profile ${PROFILE} --bin hearth \
 && cp target/*/hearth /usr/local/bin/hearth

# By itself: it changes with other files than hearth does.
FROM ${RUST_IMAGE} AS runtimes
WORKDIR /src
COPY runtimes runtimes
RUN for script in runtimes/*/build.sh; do "$script"; done

FROM ${BASE_IMAGE}
# Whom TLS is trusted with, where webhooks, traces or Redis speak it.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates >/dev/null \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/hearth /usr/local/bin/hearth
COPY --from=runtimes /src/runtimes /usr/share/hearth/runtimes
COPY LICENSE /usr/share/doc/hearth/LICENSE
EXPOSE 8080
# There is no HTTP client in the image, and none is needed for one line.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200'"]
ENTRYPOINT ["hearth"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--state-dir", "/var/lib/hearth", "--set", "runtimes.dir=/usr/share/hearth/runtimes"]
