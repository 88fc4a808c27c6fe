#!/bin/bash
# Made by alignlaunch from direct.yaml (what it says: sha256 334ee10275719934dc2d87f88167664507947c64ebdc2c2c8a33536b997b12e4).
# Do not edit: change the job file and render again. Run from the folder of direct.yaml, on every node:
#     [NODE_RANK=N] bash launch/sft-direct-one/bash/deepspeed.sh [zero_stage] [num_nodes] [gpus_per_node] [master_addr] [master_port]
# The same can come from the environment: MASTER_ADDR MASTER_PORT NODE_RANK NPROC_PER_NODE and WORLD_SIZE, here the
# number of NODES. What neither gives is the job's. zero_stage 0 is plain DDP.

set -euo pipefail

export CUDA_VISIBLE_DEVICES= # no GPU is used, even where there is one
export PYTHONUNBUFFERED=1
ALIGNLAUNCH_BEGAN=$(date +%s) # for `alignlaunch status --goodput`
export ALIGNLAUNCH_BEGAN

fail() {
    echo "deepspeed.sh: $1" >&2
    exit 2
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" > /dev/null && pwd) # > /dev/null: with CDPATH, cd prints
[[ $# -le 5 ]] || fail "5 arguments at most: [zero_stage] [num_nodes] [gpus_per_node] [master_addr] [master_port]"
zero_stage="${1:-2}"
num_nodes="${2:-${WORLD_SIZE:-1}}"
gpus_per_node="${3:-${NPROC_PER_NODE:-1}}"
master_addr="${4:-${MASTER_ADDR:-localhost}}"
master_port="${5:-${MASTER_PORT:-29500}}"
node_rank="${NODE_RANK:-0}"

count='^[1-9][0-9]{0,4}$'
[[ "$num_nodes" =~ $count ]] || fail "num_nodes is '$num_nodes'; a number of nodes is due, 1 or more"
[[ "$gpus_per_node" =~ $count ]] || fail "gpus_per_node is '$gpus_per_node'; a number of processes is due, 1 or more"
[[ "$master_port" =~ $count && "$master_port" -le 65535 ]] || fail "master_port is '$master_port'; 1 to 65535 is due"
[[ "$node_rank" =~ ^(0|[1-9][0-9]{0,4})$ && "$node_rank" -lt "$num_nodes" ]] ||
    fail "NODE_RANK is '$node_rank'; with $num_nodes nodes it goes from 0 to $((num_nodes - 1)), each node its own"
if [[ "$num_nodes" -gt 1 && "$master_addr" == localhost ]]; then
    echo "deepspeed.sh: warning: $num_nodes nodes and master_addr localhost: only right if all run on this machine" >&2
fi
case "$zero_stage" in
    0) zero_json=none ;;
    1) zero_json="$here/zero1.json" ;;
    2) zero_json="$here/zero2.json" ;;
    3) zero_json="$here/zero3.json" ;;
    *) fail "zero_stage is '$zero_stage'; 0, 1, 2 or 3 is due" ;;
esac
[[ "$zero_json" == none || -f "$zero_json" ]] || fail "no $zero_json: render again with alignlaunch"
[[ -f "$here/job.resolved.yaml" ]] || fail "no $here/job.resolved.yaml: render again with alignlaunch"

python="${ALIGNLAUNCH_PYTHON:-python3}"
command -v "$python" > /dev/null || fail "no $python here: activate the training environment, or set ALIGNLAUNCH_PYTHON"
unset WORLD_SIZE # it counts processes from here on; the launcher sets it

total=$((num_nodes * gpus_per_node))
cat << END
job             sft-direct-one (sft)
model           ../model/Qwen/Qwen3-0.6B
data            ../data/finetune
output          output/sft-direct-one
ZeRO            $zero_stage ($zero_json)
nodes           $num_nodes, this is $node_rank, head $master_addr:$master_port
processes       $total ($gpus_per_node on each node)
batch           1 x $total x 8 = $((1 * total * 8))
END
# torchrun and preflight read these.
export PET_NNODES="$num_nodes" PET_NPROC_PER_NODE="$gpus_per_node" PET_NODE_RANK="$node_rank"
export PET_MASTER_ADDR="$master_addr" PET_MASTER_PORT="$master_port"
# The nodes meet first and are compared; then preflight becomes the launcher. It ends with 2, or 3 if a retry may do.
preflight=("$python" -m alignlaunch.train.preflight --timeout 900 "$here/job.resolved.yaml" --)
train=(alignlaunch.train "$here/job.resolved.yaml" --deepspeed "$zero_json")

# With --no_ssh each node starts its own processes; the hostfile only says how many nodes and processes there are.
# Without --no_ssh, deepspeed ignores --node_rank, and without a hostfile it refuses --num_nodes 2.
hostfile=$(mktemp)
trap 'rm -f "$hostfile"' EXIT
for ((i = 0; i < num_nodes; i++)); do
    echo "node-$i slots=$gpus_per_node"
done > "$hostfile"
code=0
"${preflight[@]}" "$python" -m deepspeed.launcher.runner --hostfile "$hostfile" --no_ssh --node_rank "$node_rank" \
    --master_addr "$master_addr" --master_port "$master_port" --no_local_rank --module "${train[@]}" || code=$?
if [[ "$code" -ne 0 && "$node_rank" -eq 0 ]]; then # as `notify` in the job asks for it
    "$python" -m alignlaunch.launchers.retry.tell "$here" --code "$code" || true
fi
exit "$code"
