# One image for every door: `onboard worker`, `onboard run`, … Built in two steps, so that the tools of development stay out.

FROM python:3.12-slim AS wheels
WORKDIR /src
COPY requirements.lock .
# Every wheel is checked against the hash in the lock file.
RUN pip wheel --no-cache-dir --require-hashes --no-deps --requirement requirements.lock --wheel-dir /wheels

FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=wheels /wheels /wheels
COPY pyproject.toml README.md LICENSE /src/
COPY tasks /src/tasks
COPY worker /src/worker
COPY simulator /src/simulator
# Nothing but the checked wheels can be installed.
RUN pip install --no-cache-dir --no-index --find-links /wheels "/src[postgres,simulator]" && rm -rf /wheels /src
RUN useradd --uid 10001 --create-home onboard
USER onboard
WORKDIR /home/onboard
ENTRYPOINT ["onboard"]
CMD ["worker"]
