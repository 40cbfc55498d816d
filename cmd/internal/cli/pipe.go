package cli

import (
	"os/signal"
	"syscall"
)

// OutlivePipe keeps a command that others rely on from ending with whoever reads its output: a write to a pipe that nobody reads any more
// is lost, where it would end the process. Everything else ends as commands in a pipe do.
func OutlivePipe() { signal.Ignore(syscall.SIGPIPE) }
