package cli

import (
	"errors"
	"fmt"
)

// The exit codes of both programs.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2

	ExitInterrupted = 130 // as shells have it of a program that SIGINT ended
)

// UsageError is a setting or an argument that a person has to change: [ExitUsage].
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

func (e UsageError) Unwrap() error { return e.Err }

// Usage makes an error the user's.
func Usage(err error) error { return UsageError{Err: err} }

// Usagef is [Usage] of a sentence.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// ErrReported ends a command whose output has already said what is wrong: [ExitFailed].
var ErrReported = errors.New("reported")

// UnreadError ends a command that may not wait until somebody reads what it says: nothing is printed of it.
type UnreadError struct{ Err error }

func (e UnreadError) Error() string { return e.Err.Error() }

func (e UnreadError) Unwrap() error { return e.Err }
