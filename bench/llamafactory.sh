#!/usr/bin/env bash
# bench/llamafactory.sh PLACE: make an environment with LLaMA-Factory 0.9.5 for `python -m bench.train --llamafactory
# PLACE/bin/python`. It needs older versions of some packages than ours; all others are those of the environment that
# `python` belongs to.
set -euo pipefail
place=$1
python -m venv "$place"
"$place/bin/pip" install --quiet --no-deps torch==2.13.0 llamafactory==0.9.5 transformers==5.6.0 trl==0.24.0 \
    peft==0.18.1 tokenizers==0.22.2 accelerate==1.11.0 datasets==4.0.0 huggingface-hub==1.33.0 omegaconf==2.4.0
site=$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$site/ours.pth"
mkdir -p "$site/torchaudio" # imported and not used
touch "$site/torchaudio/__init__.py"
