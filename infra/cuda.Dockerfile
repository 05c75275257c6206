# Lockstep for hosts with NVIDIA cards and the NVIDIA container toolkit. NEVER BUILT NOR RUN by its authors, who had no card:
#   docker build -f infra/cuda.Dockerfile -t lockstep-cuda .
#   docker run --gpus '"device=0"' lockstep-cuda doctor
# TensorFlow 2.21 is built for CUDA 12 and cuDNN 9; the base image brings both.
FROM node:20-bookworm-slim AS node

FROM nvidia/cuda:12.5.1-cudnn-runtime-ubuntu22.04
# `graphics` makes the toolkit bring the Vulkan driver, for --engine webgpu.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics LOCKSTEP_TENSORFLOW=cuda
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ python3-pip redis-server libvulkan1 util-linux \
  && rm -rf /var/lib/apt/lists/*
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
  && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
WORKDIR /opt/lockstep
COPY . .
RUN npm run setup
ENTRYPOINT ["node", "/opt/lockstep/dist/cli/main.js"]
