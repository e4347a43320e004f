# The gateway: HTTP in, jobs out, streams back. It holds no LLM SDK.
#   docker build -f deploy/gateway.Dockerfile -t railstream-gateway .
# A package index of your own: --secret id=pip_conf,src=<a pip.conf>; it stays out of the image.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN python -m venv --without-pip /opt/railstream
# The locked set first: this layer is rebuilt only when the lock changes.
COPY deploy/gateway.lock /build/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/railstream install --require-hashes -r /build/gateway.lock
# The project is built by the locked hatchling, without isolation: nothing is fetched that no hash covers.
COPY deploy/build.lock /build/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes -r /build/build.lock
COPY pyproject.toml LICENSE /build/
COPY docs/package.md /build/docs/
COPY shared /build/shared
COPY gateway /build/gateway
COPY worker /build/worker
RUN pip wheel --no-deps --no-build-isolation --no-index -w /wheels /build \
    && pip --python /opt/railstream install --no-deps --no-index /wheels/*.whl \
    && rm -r /opt/railstream/lib/python3*/site-packages/railstream_{worker,engine}

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="railstream-gateway" \
      org.opencontainers.image.description="Railstream's HTTP side: admission, queueing and the relay of streams" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin railstream
COPY --from=build /opt/railstream /opt/railstream
# The root file system may be read-only: nothing is written but to /tmp.
ENV PATH=/opt/railstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAILSTREAM_HOST=0.0.0.0 \
    RAILSTREAM_PORT=8000
USER 10001:10001
EXPOSE 8000
# Alive, not ready: a gateway whose Redis is away must not be restarted for it.
HEALTHCHECK --interval=3s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
# The process is PID 1 and handles SIGTERM itself: not ready, drain, exit 0.
ENTRYPOINT ["railstream", "gateway"]
