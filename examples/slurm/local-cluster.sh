#!/usr/bin/env bash
# A Slurm cluster of this one machine, for trying: local-cluster.sh up|down [FOLDER]
# All of its configuration, keys, state and logs lie in FOLDER. Debian or Ubuntu, as root; systemd and cgroups are not needed.
set -euo pipefail

fail() {
  echo "local-cluster.sh: $1" >&2
  exit 1
}

PATH=$PATH:/usr/sbin:/sbin
command=${1:-}
folder=$(realpath -m -- "${2:-${TMPDIR:-/tmp}/wanq-slurm}")
mark='# written by local-cluster.sh, which removes this folder'
export SLURM_CONF=$folder/slurm.conf
unset SLURM_CLUSTERS

install_slurm() {
  local program
  for program in slurmctld slurmd munged sbatch; do
    command -v "$program" >/dev/null && continue
    {
      apt-get update
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge
    } >&2
    return
  done
}

listening() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Two neighbouring ports that nobody listens on.
free_ports() {
  local port
  for ((port = 16817; port < 16917; port += 2)); do
    listening "$port" || listening "$((port + 1))" || break
  done
  echo "$port"
}

write_configuration() {
  local name port
  name=$(uname -n)
  name=${name%%.*}
  port=$(free_ports)
  mkdir -p -- "$folder"
  chmod 755 "$folder"
  mkdir -m 755 "$folder/munge" "$folder/log" "$folder/spool"
  mkdir -m 700 "$folder/state"
  (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
  # linuxproc and none do without cgroups. A requeued job waits for cred_expire, two minutes by default.
  cat >"$SLURM_CONF" <<END
$mark
ClusterName=wanq
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2
SlurmdParameters=config_overrides
KillWait=5
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
PartitionName=local Nodes=ALL Default=YES MaxTime=INFINITE
END
}

give_up() {
  echo "local-cluster.sh: the cluster does not start" >&2
  tail -n 20 "$folder"/log/*.log "$folder/munge/log" >&2 2>/dev/null || true
  down
  exit 1
}

up() {
  [[ $EUID == 0 ]] || fail "needs to be root"
  [[ ! -e $folder ]] || fail "$folder is there already: take it down first"
  # Sockets lie in the folder, and their paths are 107 bytes long at most.
  ((${#folder} <= 60)) || fail "$folder is too long a path: name a shorter one"
  install_slurm
  trap give_up EXIT
  write_configuration
  # Without --force it refuses folders that only root can enter.
  munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF"
  local deadline=$((SECONDS + 60))
  until [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; do
    ((SECONDS < deadline)) || exit 1
    sleep 0.2
  done
  trap - EXIT
  echo "export SLURM_CONF=$SLURM_CONF"
}

# stop PIDFILE NAME: ends a daemon of ours; a pid that another program has by now is left alone.
stop() {
  local pid deadline=$((SECONDS + 20))
  pid=$(cat -- "$1" 2>/dev/null) || return 0
  is_ours() { [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" ]]; }
  if is_ours "$2"; then kill -TERM "$pid" || true; fi
  while is_ours "$2"; do
    ((SECONDS < deadline)) || kill -KILL "$pid" || true
    sleep 0.2
  done
}

jobs_left() {
  [[ -n $(timeout 10 squeue --noheader 2>/dev/null) ]]
}

# Jobs outlive slurmd. Ours are known by the configuration in their environment, and from a shell that only uses it by their job's id.
processes_left() {
  local environment pid
  for environment in /proc/[0-9]*/environ; do
    pid=${environment//[^0-9]/}
    grep -qzxF "SLURM_CONF=$SLURM_CONF" "$environment" 2>/dev/null || continue
    if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == slurmstepd ]] || grep -qz '^SLURM_JOB_ID=' "$environment" 2>/dev/null; then
      echo "$pid"
    fi
  done
}

down() {
  [[ -e $folder ]] || return 0
  [[ $(head -n 1 -- "$SLURM_CONF" 2>/dev/null) == "$mark" ]] || fail "$folder is not a folder of this script"
  local deadline=$((SECONDS + 30)) pid
  timeout 10 scancel --partition=local 2>/dev/null || true
  while jobs_left && ((SECONDS < deadline)); do sleep 0.3; done
  stop "$folder/slurmctld.pid" slurmctld
  stop "$folder/slurmd.pid" slurmd
  for pid in $(processes_left); do kill -KILL "$pid" 2>/dev/null || true; done
  stop "$folder/munge/pid" munged
  rm -rf -- "$folder"
}

case $command in
  up) up ;;
  down) down ;;
  *) fail "wanted up or down, and a folder (default ${TMPDIR:-/tmp}/wanq-slurm)" ;;
esac
