# Sourced by the jobs of several ranks: torchrun on every node of the job, found by the first one's address.
set -euo pipefail

# GPUs that the job has on each node: as it asked, or divided evenly.
gpus_of_node() {
  local asked="${SLURM_GPUS_PER_NODE:-}"
  asked="${asked##*:}"
  echo "${asked:-$((${SLURM_GPUS:-${SLURM_JOB_NUM_NODES}} / SLURM_JOB_NUM_NODES))}"
}

# run_ranks RANKS_PER_NODE STRATEGY TRAIN_ARGUMENTS...
run_ranks() {
  local ranks="${1%%(*}" strategy="$2" first address program
  shift 2
  program="${SPEECHMILL:-.venv/bin/speechmill}"
  first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
  address="$(scontrol show node --oneliner "$first" | sed 's/.*NodeAddr=\([^ ]*\).*/\1/')"
  # Slurm's warning is for the ranks: torchrun would end by it.
  trap '' USR1
  exec srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 "$(dirname "$program")/torchrun" \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$ranks" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$address:$((20000 + SLURM_JOB_ID % 20000))" \
    -m -- speechmill train "$@" --strategy "$strategy" --requeue
}
