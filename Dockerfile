# One image for every door: `onboard worker`, `onboard watch`, `onboard beat`, … Built in two steps, so that neither wheels
# nor the tools of development come along. It runs as nobody in particular and needs no writable file system but its volumes.

FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock .
# Every wheel is checked against the hash in the lock file.
RUN pip wheel --no-cache-dir --require-hashes --no-deps --requirement requirements.lock --wheel-dir /wheels
COPY pyproject.toml README.md LICENSE /src/
COPY tasks /src/tasks
COPY worker /src/worker
COPY simulator /src/simulator
COPY sample_data/clean.csv /src/sample_data/clean.csv
COPY deploy/sbom.cdx.json /src/deploy/sbom.cdx.json
COPY docs/man /src/docs/man
# Nothing but the checked wheels can be installed.
RUN python -m venv --without-pip /opt/onboard \
 && pip --python /opt/onboard/bin/python install --no-cache-dir --no-index --find-links /wheels "/src[postgres,simulator,console,oidc]"

FROM python:3.12-slim
ENV PATH=/opt/onboard/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ONBOARD_HOME=/var/lib/onboard ONBOARD_DROP_FOLDER=/srv/drop ONBOARD_METRICS_HOST=0.0.0.0 ONBOARD_METRICS_PORT=9464
# A new volume is given the owner of the folder that it covers.
RUN useradd --uid 10001 --create-home onboard \
 && install --directory --owner onboard --group onboard --mode 700 /var/lib/onboard /srv/drop
USER onboard
WORKDIR /home/onboard
# For worker and watcher; whoever serves no pages needs another one.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=5)"]
ENTRYPOINT ["onboard"]
CMD ["worker"]
# Last, so that only this step is done again when the code has changed.
COPY --from=build /opt/onboard /opt/onboard
