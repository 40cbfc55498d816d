package main

import (
	"errors"
	"fmt"
)

// usageError is a setting or an argument that a person has to change: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command whose output has already said what is wrong.
var errReported = errors.New("reported")
