#!/usr/bin/env bash
# One run on several SLURM nodes, from the repository's folder, which all nodes see:
#   sbatch scripts/cluster/slurm.sh +recipe=gsm8k_qwen7b_u13
# More nodes or time: options of sbatch before the script. Further arguments are those of the run.
# A run that the time limit stops is queued again and continues after its last finished step.
#SBATCH --job-name=tinylora-rl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail
saved=75        # the run's exit code when it was stopped with everything saved
max_restarts=50 # a run that never gets to a next step must not queue for ever

cd "$SLURM_SUBMIT_DIR"
[ -x scripts/cluster/ray.sh ] || {
    echo "slurm.sh: submit from the repository's folder" >&2
    exit 3
}
[ ! -d .venv/bin ] || export PATH="$PWD/.venv/bin:$PATH"
nodes=$SLURM_JOB_NUM_NODES
gpus=$SLURM_GPUS_ON_NODE
cpus=$SLURM_CPUS_ON_NODE

# This script runs on the first node, which is Ray's head; one job step runs Ray on all others.
variables=$(scripts/cluster/ray.sh head --num-gpus="$gpus" --num-cpus="$cpus")
eval "$variables"
if [ "$nodes" -gt 1 ]; then
    srun --relative=1 --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --ntasks-per-node=1 --kill-on-bad-exit=1 \
        scripts/cluster/ray.sh join "$RAY_ADDRESS" --num-gpus="$gpus" --num-cpus="$cpus" --block &
fi
scripts/cluster/ray.sh wait "$nodes"

# One folder for every restart of the job: that is how the run finds its last step.
python -m tinylora_rl.train trainer.nnodes="$nodes" trainer.n_gpus_per_node="$gpus" \
    run.dir="$PWD/runs/slurm/$SLURM_JOB_ID" "$@" &
run=$!
is_cancelled=false
trap 'is_signalled=true; kill -USR1 "$run" || true' USR1
trap 'is_signalled=true; is_cancelled=true; kill -TERM "$run" || true' TERM

is_signalled=true
while "$is_signalled"; do # a trap ends `wait`, not the run
    is_signalled=false
    code=0
    wait "$run" || code=$?
done

if [ "$code" -eq "$saved" ] && ! "$is_cancelled" && [ "${SLURM_RESTART_COUNT:-0}" -lt "$max_restarts" ]; then
    echo "slurm.sh: stopped with everything saved; queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
