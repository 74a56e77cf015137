#!/bin/bash
# Trains on two nodes without a scheduler. Type it on each node, with NODE=0 on the one whose address is HEAD:
#
#   NODE=0 HEAD=10.0.0.1 CONFIG=configs/bind.yaml RUN=/shared/runs/bind configs/cluster/torchrun.sh
#
# RUN is on a file system that both nodes share. DEVICES is the number of GPUs of a node. Behind -- torchrun reads no key.
: "${NODES:=2}" "${DEVICES:=4}" "${PORT:=29500}"
exec torchrun --nnodes "$NODES" --node-rank "$NODE" --nproc-per-node "$DEVICES" --master-addr "$HEAD" --master-port "$PORT" \
    --no-python -- align train --config "$CONFIG" --run "$RUN" --trainer.strategy ddp --trainer.num_nodes "$NODES" --trainer.devices "$DEVICES" "$@"
