# One image for every stage: `docker run park-telemetry <stage>`; compose starts one container a stage.
FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements.lock ./
# the embedded server and its font are for `park demo`; the lock is one, so that what is tested is what runs
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM python:3.11-slim
RUN groupadd --system --gid 10001 park && useradd --system --uid 10001 --gid park --home-dir /data --create-home park
WORKDIR /app
COPY --from=build /venv /venv
COPY accounting accounting
COPY alerts alerts
COPY api api
COPY collectors collectors
COPY grafana grafana
COPY ingest ingest
COPY park park
COPY reports reports
COPY simulators simulators
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PARK_DATA_DIR=/data
RUN printf '#!/venv/bin/python\nfrom park.cli import main\nmain()\n' > /venv/bin/park && chmod +x /venv/bin/park
USER park
VOLUME /data
ENTRYPOINT ["park"]
CMD ["--help"]
