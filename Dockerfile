# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/llm-observatory
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY server ./server
COPY datasource ./datasource
COPY plugin ./plugin
COPY dashboards ./dashboards
RUN /opt/llm-observatory/bin/pip install --no-cache-dir -c constraints.txt ".[parquet,s3,semantic]"

FROM python:3.11-slim
# A named account: the private PostgreSQL needs one, and nothing here needs root.
RUN useradd --system --uid 10001 --home-dir /var/lib/llm-observatory --create-home observatory \
    && install -d -o observatory /var/lib/llm-observatory/credentials
COPY --from=build /opt/llm-observatory /opt/llm-observatory
ENV PATH=/opt/llm-observatory/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OBSERVATORY_HOST=0.0.0.0 \
    OBSERVATORY_DATA_DIR=/var/lib/llm-observatory/data
USER observatory
WORKDIR /var/lib/llm-observatory
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/live', timeout=2)"]
ENTRYPOINT ["llm-observatory"]
CMD ["serve"]
