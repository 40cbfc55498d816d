package desk

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
)

// ReadSheet reads CSV that a spreadsheet has written: with semicolons or tabs, a byte order mark, cells as [Cell] writes them and empty
// ones left out at the end. The names of the header are put to check, then the cells of each line by them to take. An error names its
// line.
func ReadSheet(r io.Reader, check func(names []string) error, take func(line int, values map[string]string) error) error {
	in := bufio.NewReader(r)
	skipMark(in)
	_, _ = in.Peek(1) // so that something is buffered
	header, _ := in.Peek(in.Buffered())
	header, _, _ = bytes.Cut(header, []byte("\n"))
	reader := csv.NewReader(in)
	for _, comma := range ",;\t" {
		if bytes.ContainsRune(header, comma) {
			reader.Comma = comma
			break
		}
	}
	reader.FieldsPerRecord = -1
	names, err := reader.Read()
	if err != nil {
		return fmt.Errorf("read the header: %w", err)
	}
	for i, name := range names {
		names[i] = named(name)
	}
	if err := check(names); err != nil {
		return err
	}
	for {
		cells, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := reader.FieldPos(0)
		values := map[string]string{}
		for i, cell := range cells {
			if i < len(names) {
				values[names[i]] = ReadCell(strings.TrimSpace(cell))
			} else if cell != "" {
				return fmt.Errorf("line %d: found %d cells, expected the %d of the header", line, len(cells), len(names))
			}
		}
		if err := take(line, values); err != nil {
			return err
		}
	}
}

// skipMark skips a byte order mark.
func skipMark(in *bufio.Reader) {
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte("\ufeff")) {
		_, _ = in.Discard(3)
	}
}

// CheckHeader says that each column is known and there once, and that those that are needed are there.
func CheckHeader(names, known []string, needed ...string) error {
	seen := map[string]bool{}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("line 1: unknown column %.40q, expected some of %s", name, strings.Join(known, ", "))
		}
		if seen[name] {
			return fmt.Errorf("line 1: column %s is there twice", name)
		}
		seen[name] = true
	}
	for _, name := range needed {
		if !seen[name] {
			return fmt.Errorf("line 1: no column %s", name)
		}
	}
	return nil
}

// WriteRows writes CSV below a header, each cell as [Cell] does, so that [ReadSheet] reads it back and no spreadsheet runs it. It changes
// the rows.
func WriteRows(w io.Writer, header []string, rows iter.Seq[[]string]) error {
	out := csv.NewWriter(w)
	err := out.Write(header)
	for cells := range rows {
		for i, cell := range cells {
			cells[i] = Cell(cell)
		}
		if err == nil {
			err = out.Write(cells)
		}
	}
	if out.Flush(); err == nil {
		err = out.Error()
	}
	if err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}
