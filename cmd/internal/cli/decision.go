package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/worker/journal"
)

// DecisionSettings are what every command asks for that settles something about a customer's money.
type DecisionSettings struct {
	Actor string `help:"Who decides, for the record. Default: you, as user@host." from:"command-line"`
	Note  string `help:"Why, for the record." from:"command-line"`
	Yes   bool   `help:"Do not ask." from:"command-line"`
}

// Decision is one that is taken now.
func (d DecisionSettings) Decision(now time.Time) journal.Decision {
	actor := strings.TrimSpace(d.Actor)
	if actor == "" {
		actor = thisUser()
	}
	return journal.Decision{Actor: actor, Note: d.Note, At: now}
}

func thisUser() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// Agreed asks the person at stdin before something changes. Where nobody can be asked only --yes will do. The error is that of ctx where
// it ends before the answer.
func Agreed(ctx context.Context, stdin io.Reader, margin io.Writer, yes bool, question string) error {
	switch {
	case yes:
		return nil
	case !IsTerminal(stdin):
		return Usagef("--yes: not set, and standard input is no terminal to ask on; nothing was changed")
	}
	agreed, err := confirm(ctx, stdin, margin, question)
	if err == nil && !agreed {
		fmt.Fprintln(margin, "nothing was changed")
		err = ErrReported
	}
	return err
}

// confirm asks whoever sits at a terminal.
func confirm(ctx context.Context, stdin io.Reader, margin io.Writer, question string) (bool, error) {
	fmt.Fprintf(margin, "%s [y/N] ", question)
	typed := make(chan string, 1)
	go func() { // which ends with the process where nobody types
		answer, _ := bufio.NewReader(stdin).ReadString('\n')
		typed <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case answer := <-typed:
		return answer == "y" || answer == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(margin)
		return false, context.Cause(ctx)
	}
}
