# The image of the pods:  docker build -t REGISTRY/alignlaunch:TAG . && docker push REGISTRY/alignlaunch:TAG
# Then in a job file or cluster profile:  k8s: {image: REGISTRY/alignlaunch:TAG}
#
# devel, because DeepSpeed compiles its optimizers with nvcc when a job first wants them; the CUDA of torch below.
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

# hadolint ignore=DL3008 # the release of Ubuntu pins these; exact versions vanish from its archive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

ARG TORCH=2.13.0
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cu130 "torch==${TORCH}"

# The versions that the tests were run with; for what is built from source, too.
COPY . /tmp/alignlaunch
RUN PIP_CONSTRAINT=/tmp/alignlaunch/constraints.txt PIP_BUILD_CONSTRAINT=/tmp/alignlaunch/constraints.txt \
    pip install --no-cache-dir "/tmp/alignlaunch[train,quantization]" \
    && alignlaunch --version \
    && torchrun --help > /dev/null

# A number, because Kubernetes cannot tell that a name is not root's. Caches go to a home that any user id may write to,
# for clusters that choose their own; torch asks for a name besides.
RUN useradd --uid 10001 --create-home align && chmod 1777 /home/align
USER 10001:10001
ENV HOME=/home/align USER=align
WORKDIR /home/align
CMD ["alignlaunch", "--help"]
