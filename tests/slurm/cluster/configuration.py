"""slurm.conf and slurmdbd.conf of the private Slurm, as text to be formatted."""

from __future__ import annotations

SLURM_CONF = """\
ClusterName={cluster}
# Jobs derive ports from their ids, and all Slurms on this machine share its ports: not every one may start at 1.
FirstJobId={first_job}
{plugins}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits for cred_expire (120 s by default) before it may start again.
AuthInfo=socket={root}/munge.sock,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# A node set DOWN by hand stays down until RESUME; one that was silent comes back by itself.
ReturnToService=1
# A silent node is DOWN after this and a ping's time-out: 27 s, measured.
SlurmdTimeout=10
SlurmctldTimeout=30
MessageTimeout={message_timeout}
MinJobAge={min_job_age}
KillWait=3
InactiveLimit=0
CompleteWait=0
OverTimeLimit=0
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
# This machine has fewer CPUs, no GPU, and perhaps less memory: believe the file, not the hardware.
SlurmdParameters=config_overrides
{nodes}
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 MaxTime=1-00:00:00 DefaultTime=00:10:00
PartitionName=short Nodes=ALL PriorityTier=1 MaxTime=1 OverTimeLimit=0
PartitionName=prio Nodes=ALL PriorityTier=10 DefaultTime=00:10:00
{accounting}
"""

SLURMDBD_CONF = """\
{plugins}
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""
