package cli

import (
	"bufio"
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

// Agreed asks the person at stdin before something changes. Where nobody can be asked only --yes will do.
func Agreed(stdin io.Reader, margin io.Writer, yes bool, question string) error {
	switch {
	case yes:
		return nil
	case !IsTerminal(stdin):
		return Usagef("--yes: not set, and standard input is no terminal to ask on; nothing was changed")
	case !Confirm(stdin, margin, question):
		fmt.Fprintln(margin, "nothing was changed")
		return ErrReported
	}
	return nil
}

// Confirm asks the person at stdin, and answers no where there is none.
func Confirm(stdin io.Reader, margin io.Writer, question string) bool {
	if !IsTerminal(stdin) {
		return false
	}
	fmt.Fprintf(margin, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
