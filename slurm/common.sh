# Sourced by the training jobs: where the program is, and what a job does when its time runs out.
#
# SPEECHMILL names the command (default: .venv/bin/speechmill of the folder that the job was submitted from).

set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
SPEECHMILL="${SPEECHMILL:-$PWD/.venv/bin/speechmill}"
if [ ! -x "$SPEECHMILL" ]; then
  echo "$SPEECHMILL: no such program; submit from the project's folder after 'make env', or set SPEECHMILL." >&2
  exit 2
fi

# Status 130 says: stopped by a signal, saved, not at the end. The job goes back into the queue and takes its run up again.
leave() {
  local status=$1
  if [ "$status" -eq 130 ] && [ -n "${SLURM_JOB_ID:-}" ] && [ "${SPEECHMILL_REQUEUE:-1}" = 1 ]; then
    echo "stopped before the end; requeued as job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID" && exit 0
  fi
  exit "$status"
}
