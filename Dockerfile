# xft with the CUDA build of torch, which pip installs. Not tried: the checks of the project have no container engine.
#
#   docker build -t xft .
#   docker run --rm -it --gpus all --shm-size 8g -v "$PWD:/work" xft train smollm2_lora --data my_rows.csv
#
# Runs are written to runs/ of the current folder, downloaded models to .cache/ in it.
FROM python:3.12-bookworm

COPY . /opt/xft
# mmengine asks for opencv-python, which needs libGL; the headless build provides the same module.
RUN pip install --no-cache-dir "/opt/xft[serve,logging]" \
    && pip install --no-cache-dir --no-deps -r /opt/xft/requirements/demo.txt \
    && pip install --no-cache-dir --no-deps --force-reinstall opencv-python-headless

WORKDIR /work
ENV XDG_CACHE_HOME=/work/.cache HF_HOME=/work/.cache/huggingface
ENTRYPOINT ["xft"]
CMD ["--help"]
