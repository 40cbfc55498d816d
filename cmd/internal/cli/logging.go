package cli

import (
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
)

// LogSettings say what is logged, on standard error.
type LogSettings struct {
	Level  string `name:"log-level" group:"Log" enum:"debug,info,warn,error" default:"info" help:"debug, info, warn or error."`
	Format string `name:"log-format" group:"Log" enum:"auto,json,console" default:"auto" help:"json, console, or by default auto: sentences, and of work console on a terminal, else json."`
}

// A Log is where the log goes.
type Log struct {
	Program string
	Stderr  io.Writer
	Margin  io.Writer // the same for a person: lines fit
	Plain   bool      // no colours
}

// Logger is that of a command that somebody waits for. What it has to tell stands among what the command prints, as a sentence.
func (l LogSettings) Logger(to Log) zerolog.Logger {
	switch l.Format {
	case "json":
		return l.to(zerolog.SyncWriter(to.Stderr))
	case "console":
		return l.console(to)
	}
	return l.to(zerolog.SyncWriter(zerolog.ConsoleWriter{
		Out: to.Margin, NoColor: true, PartsOrder: []string{zerolog.MessageFieldName},
		FormatMessage: func(message any) string { return fmt.Sprintf("%s: %v", to.Program, message) },
	}))
}

// Gathered is a logger for whoever logs much, and what to call when nothing more will be logged.
func (l LogSettings) Gathered(to Log) (zerolog.Logger, func()) {
	if l.Format == "console" || l.Format == "auto" && IsTerminal(to.Stderr) {
		return l.console(to), func() {}
	}
	w, flush := NewLogLines(to.Stderr)
	return l.to(w), flush
}

func (l LogSettings) console(to Log) zerolog.Logger {
	return l.to(zerolog.SyncWriter(zerolog.ConsoleWriter{Out: to.Margin, TimeFormat: time.TimeOnly, NoColor: to.Plain || !IsTerminal(to.Stderr)}))
}

func (l LogSettings) to(w io.Writer) zerolog.Logger {
	level, err := zerolog.ParseLevel(l.Level)
	if err != nil {
		level = zerolog.InfoLevel // the flag's enum has refused anything else
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// version is what the build knows of itself.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
