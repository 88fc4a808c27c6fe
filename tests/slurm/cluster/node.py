"""What makes a slurmd a node of its own: its namespaces, and the script that prepares them and starts it."""

from __future__ import annotations

NAMESPACES = ("--mount", "--propagation", "private", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")

NODE_SCRIPT = """\
set -e
mount --bind "$1" /etc/hosts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
hostname "$2"
# Another version's programs in place of the installed ones: a job finds srun where its login PATH has it.
if [ -n "$3" ]; then
    for place in bin sbin; do mount -t overlay -o "ro,lowerdir=$3/$place:/usr/$place" overlay "/usr/$place"; done
fi
shift 3
"$@" &   # not exec: process 1 of a PID namespace must reap orphans, which slurmd does not
wait $!
"""
