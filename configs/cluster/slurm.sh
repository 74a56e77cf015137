#!/bin/bash
# Trains on the nodes of a SLURM job, and goes on in the next one where the time of this one ends:
#
#   sbatch --export=ALL,CONFIG=configs/bind.yaml,RUN=/shared/runs/bind configs/cluster/slurm.sh
#
# RUN is on a file system that all nodes share. Further keys follow the script: ... slurm.sh --trainer.strategy fsdp2
#SBATCH --job-name=align
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# --ntasks-per-node: one task a GPU.  --signal: two minutes before the end every rank gets SIGUSR1, finishes its step
# and saves, and rank 0 calls scontrol requeue.  --open-mode: the next start goes on in the same log.

exec srun align train --config "$CONFIG" --run "$RUN" --trainer.strategy ddp \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" "$@"
