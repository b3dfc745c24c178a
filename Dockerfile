# The server in a container; see docs/serving.md.
#
#   docker build -t anystory-serve .                                                  # for CPUs
#   docker build -t anystory-serve --build-arg TORCH=https://download.pytorch.org/whl/cu128 .   # for NVIDIA's GPUs
FROM python:3.11-slim

# What skia-python and OpenCV link against.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1 libfontconfig1 \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# torch comes from its own index, so its version alone is pinned, without the suffix of its build.
RUN sed 's/^torch==\([0-9.]*\).*/torch==\1/' constraints.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir -c /tmp/constraints.txt --extra-index-url "$TORCH" ".[serve,lora,heif,video]"

RUN useradd --create-home --uid 1000 anystory && mkdir /data && chown anystory /data
USER anystory
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["anystory", "serve", "--host", "0.0.0.0", "--data", "/data"]
CMD ["--keys", "/data/keys.yaml"]
