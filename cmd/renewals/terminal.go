package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// terminal is what a command talks to.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	plain          bool // no colours, whatever it can show
}

func newTerminal(stdin io.Reader, stdout, stderr io.Writer, env environment) *terminal {
	noColor, _ := env("NO_COLOR") // https://no-color.org
	kind, _ := env("TERM")
	return &terminal{stdin, stdout, stderr, noColor != "" || kind == "dumb"}
}

// isTerminal reports whether somebody is looking at a stream, or typing into it.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a person, and answers no where there is none.
func (t *terminal) confirm(question string) bool {
	if !isTerminal(t.stdin) {
		return false
	}
	fmt.Fprintf(t.margin(), "%s [y/N] ", question)
	answer, _ := bufio.NewReader(t.stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// logSettings say what is logged, on standard error.
type logSettings struct {
	Level  string `name:"log-level" group:"Log" enum:"debug,info,warn,error" default:"info" help:"debug, info, warn or error."`
	Format string `name:"log-format" group:"Log" enum:"auto,json,console" default:"auto" help:"json, console, or by default auto: sentences, and of work console on a terminal, else json."`
}

// logger is that of a command that somebody waits for. What it has to tell stands among what the command prints, as a sentence.
func (l logSettings) logger(t *terminal) zerolog.Logger {
	switch l.Format {
	case "json":
		return l.to(zerolog.SyncWriter(t.stderr))
	case "console":
		return l.console(t)
	}
	return l.to(zerolog.SyncWriter(zerolog.ConsoleWriter{
		Out: t.margin(), NoColor: true, PartsOrder: []string{zerolog.MessageFieldName},
		FormatMessage: func(message any) string { return fmt.Sprintf("renewals: %v", message) },
	}))
}

// gathered is a logger for whoever logs much, and what to call when nothing more will be logged.
func (l logSettings) gathered(t *terminal) (zerolog.Logger, func()) {
	if l.Format == "console" || l.Format == "auto" && isTerminal(t.stderr) {
		return l.console(t), func() {}
	}
	w, flush := newLogLines(t.stderr)
	return l.to(w), flush
}

func (l logSettings) console(t *terminal) zerolog.Logger {
	return l.to(zerolog.SyncWriter(zerolog.ConsoleWriter{Out: t.margin(), TimeFormat: time.TimeOnly, NoColor: t.plain || !isTerminal(t.stderr)}))
}

func (l logSettings) to(w io.Writer) zerolog.Logger {
	level, err := zerolog.ParseLevel(l.Level)
	if err != nil {
		level = zerolog.InfoLevel // the flag's enum has refused anything else
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// progress is a bar on a terminal and nothing elsewhere. It is safe for concurrent use.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	label string
	total int64 // 0 where it is not known
	at    int64
	next  time.Time
	shown bool
	on    bool
}

func newProgress(w io.Writer, label string, total int64) *progress {
	return &progress{w: w, label: label, total: total, on: isTerminal(w)}
}

// set moves the bar.
func (p *progress) set(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
	if now := time.Now(); p.on && now.After(p.next) {
		p.next = now.Add(100 * time.Millisecond)
		p.draw()
	}
}

func (p *progress) draw() {
	const width = 40
	p.shown = true
	if p.total <= 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s %d", p.label, p.at)
		return
	}
	full := int(width * min(p.at, p.total) / p.total)
	fmt.Fprintf(p.w, "\r\x1b[K%s [%s%s] %3d%%", p.label, strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*min(p.at, p.total)/p.total)
}

// printf writes a line above the bar.
func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(newPage(p.w, true), format, args...)
}

// done takes the bar away.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// version is what the build knows of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
