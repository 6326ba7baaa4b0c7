# One image for every role: `notifier api`, `notifier worker POOL`, `notifier beat`, `notifier migrate`, `notifier sandbox`.
# Runs as a user without rights and on a read-only root file system; only /tmp is written to (docs/deploying.md).

# Pin it by digest for a build that is the same next year: --build-arg BASE=python:3.13-slim-trixie@sha256:…
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/notifier
WORKDIR /src
COPY requirements/image.txt requirements/
# Wheels only: whatever would have to be compiled here would need tools that nobody has locked.
RUN /opt/notifier/bin/pip install --require-hashes --only-binary :all: -r requirements/image.txt
COPY pyproject.toml README.md LICENSE ./
COPY notifier notifier
COPY workers workers
# What was needed to build it goes before the environment is copied.
RUN /opt/notifier/bin/pip install --no-deps --no-build-isolation . \
    && /opt/notifier/bin/python -m compileall -q -j 0 /opt/notifier/lib \
    && /opt/notifier/bin/pip uninstall --yes setuptools pip

FROM ${BASE}
LABEL org.opencontainers.image.title="notifier" \
      org.opencontainers.image.description="Delivers email, push and desktop notifications; nothing lost, nothing doubled." \
      org.opencontainers.image.licenses="Apache-2.0"
# Kubernetes asks for a number (runAsNonRoot); nothing in the image belongs to it, so it can change nothing.
RUN groupadd --gid 10001 notifier \
    && useradd --uid 10001 --gid notifier --no-create-home --home-dir /tmp --shell /usr/sbin/nologin notifier \
    && python -m pip uninstall --yes --root-user-action ignore pip
COPY --from=build /opt/notifier /opt/notifier
COPY templates /app/templates
# Metrics have a port of their own; without one `notifier health` could ask nobody.
ENV PATH=/opt/notifier/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NOTIFIER_TEMPLATES_DIR=/app/templates \
    NOTIFIER_METRICS_HOST=0.0.0.0 \
    NOTIFIER_METRICS_PORT=9100 \
    NOTIFIER_METRICS_DIR=/tmp/metrics
WORKDIR /app
USER 10001:10001
EXPOSE 8000 9100
# Whatever the role is, it answers on the one port for metrics. (Not so the sandbox: compose asks that one itself.)
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["notifier", "health", "worker"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["notifier"]
CMD ["api", "--host", "0.0.0.0"]
