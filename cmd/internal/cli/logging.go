package cli

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
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
		return l.console(to, to.Margin)
	}
	return l.to(zerolog.SyncWriter(zerolog.ConsoleWriter{
		Out: to.Margin, NoColor: true, PartsOrder: []string{zerolog.MessageFieldName},
		FormatMessage: func(message any) string { return fmt.Sprintf("%s: %v", to.Program, message) },
	}))
}

// Gathered is a logger for whoever logs much and waits for nobody who reads it, and what to call when nothing more will be logged, see
// [NewLogLines]. dropped is told of lines that nobody took.
func (l LogSettings) Gathered(to Log, dropped func(lines int)) (log zerolog.Logger, flush func() (written bool)) {
	out, form := to.Stderr, l.to
	if l.Format == "console" || l.Format == "auto" && IsTerminal(to.Stderr) {
		out, form = to.Margin, func(w io.Writer) zerolog.Logger { return l.console(to, w) }
	}
	lines, flush := NewLogLines(out, func(missing int) []byte {
		var line bytes.Buffer
		gap := form(&line).Level(zerolog.WarnLevel)
		gap.Warn().Int("lines", missing).Msg("lines of the log are missing before this one, since whatever reads it did not take them: see that it keeps up, or log less")
		return line.Bytes()
	}, dropped)
	log = form(lines)
	stdlog.SetFlags(0)
	stdlog.SetOutput(log.With().Str(zerolog.LevelFieldName, zerolog.LevelWarnValue).Logger()) // net/http logs there while it holds a connection
	return log, flush
}

func (l LogSettings) console(to Log, w io.Writer) zerolog.Logger {
	return l.to(zerolog.SyncWriter(zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: to.Plain || !IsTerminal(to.Stderr)}))
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
