# Sourced by all jobs: how one process is started, and how ranks are, on every node of the job.
set -euo pipefail

program="$(command -v "${SPEECHMILL:-.venv/bin/speechmill}")" || {  # a name on PATH, too: torchrun is beside it
  echo "${SPEECHMILL:-.venv/bin/speechmill}: no such command; submit from the project's folder, or set SPEECHMILL" >&2
  exit 2
}

# What a job trains without --run: a folder of its own, the same one when it comes back from the queue.
run_folder() {
  case " $* " in
    *" --run"*) ;;
    *) echo "--run runs/$SLURM_JOB_NAME-$SLURM_JOB_ID" ;;
  esac
}

# run_one TRAIN_ARGUMENTS...
run_one() {
  # shellcheck disable=SC2046  # two words, or none
  exec srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$program" train "$@" $(run_folder "$@") --requeue
}

# GPUs that the job has on each node, as it asked or divided evenly, or (--gres) as this node has them; none: 0.
gpus_of_node() {
  local of_node="${SLURM_GPUS_PER_NODE:-}" of_job="${SLURM_GPUS:-}"
  of_node="${of_node##*:}" of_job="${of_job##*:}"  # without the kind: h100:4
  if [ -z "$of_node" ] && [ -n "$of_job" ]; then
    of_node=$((of_job / SLURM_JOB_NUM_NODES))
  fi
  echo "${of_node:-${SLURM_GPUS_ON_NODE:-0}}"
}

# On each node, the one task: torchrun, which Slurm's warning would end, and its ranks, for which the warning is. Some
# clusters signal all processes of a task and some the first alone: ranks take no notice of a second one. So it is said
# again until they are gone: those that were just starting have not heard the first.
on_node() {
  local torchrun="$1" host=false
  shift
  if [ "${SLURM_NODEID:-0}" = 0 ]; then  # torch's guess by names and addresses fails where a node has several
    host=true
  fi
  trap '' USR1  # torchrun begins with that
  "$torchrun" --rdzv-conf="is_host=$host" "$@" &
  local agent=$! status=0 signalled=1 again=""
  trap 'signalled=1; warn "$agent"; [ -n "$again" ] || { while sleep 5; do warn "$agent"; done & again=$!; }' USR1
  trap 'signalled=1; kill -TERM "$agent" || true' TERM
  while [ "$signalled" = 1 ]; do  # a signal ends the waiting, too
    signalled=0
    wait "$agent" && status=0 || status=$?
  done
  [ -z "$again" ] || kill "$again"
  return "$status"
}

warn() {
  pkill -USR1 --parent "$1" || true
}

# run_ranks RANKS_PER_NODE STRATEGY TRAIN_ARGUMENTS...
run_ranks() {
  local ranks="${1%%(*}" strategy="$2" tasks="${SLURM_NTASKS_PER_NODE:-1}" first address
  tasks="${tasks%%(*}"
  shift 2
  first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
  address="$(scontrol show node --oneliner "$first" | sed 's/.*NodeAddr=\([^ ]*\).*/\1/')"
  trap '' USR1
  # One task a node with all of its cores: Slurm would give it those of one rank.
  # shellcheck disable=SC2046
  exec srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    --cpus-per-task="$((tasks * ${SLURM_CPUS_PER_TASK:-1}))" \
    bash -c "$(declare -f on_node warn); on_node \"\$@\"" ranks "$(dirname "$program")/torchrun" \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$ranks" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$address:$((20000 + SLURM_JOB_ID % 20000))" \
    -m -- speechmill train --strategy "$strategy" "$@" $(run_folder "$@") --requeue
}
