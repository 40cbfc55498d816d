//go:build linux

package main

import (
	"os/exec"
	"time"
)

// slowDisk is how much longer each fsync of the brokers takes in the groups of that name: as on disks behind a network, where group
// commit is for. A disk of this machine's own confirms in a fraction of that, and processors are the limit then.
const slowDisk = 2 * time.Millisecond

// slowed is a command whose fsyncs return later by so much. strace holds each of them up, and through a filter of the
// kernel's looks at no other system call; as the grandchild of what it watches it leaves the process itself to be told, counted and ended as any other.
// https://man7.org/linux/man-pages/man1/strace.1.html
func slowed(by time.Duration, command []string) []string {
	if by == 0 {
		return command
	}
	return append([]string{
		"strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "signal=none",
		"-e", "inject=fsync:delay_exit=" + by.String(),
	}, command...)
}

// canSlow says whether there is a strace that may do that: a container can forbid to trace.
func canSlow() bool {
	command := slowed(slowDisk, []string{"true"})
	return exec.Command(command[0], command[1:]...).Run() == nil
}
