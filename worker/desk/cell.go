package desk

import "strings"

// spreadsheets take a cell that begins so for a formula, which may fetch or send, whoever wrote it. The apostrophe is that of [Cell].
const formulas = "=+-@\t\r'"

// Cell is a text as a cell of a CSV file that people open in a spreadsheet: what would be a formula has an apostrophe before it.
// [ReadCell] takes it away again.
// https://owasp.org/www-community/attacks/CSV_Injection
func Cell(text string) string {
	if text != "" && strings.IndexByte(formulas, text[0]) >= 0 {
		return "'" + text
	}
	return text
}

// ReadCell is the text of a cell that [Cell] wrote; any other cell is what it is.
func ReadCell(cell string) string {
	if len(cell) > 1 && cell[0] == '\'' && strings.IndexByte(formulas, cell[1]) >= 0 {
		return cell[1:]
	}
	return cell
}
