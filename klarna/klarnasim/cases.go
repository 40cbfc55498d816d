package klarnasim

import (
	"fmt"
	"strings"
)

// A Case is a behaviour that a customer token asks for by its beginning.
type Case struct {
	// Name is the beginning without the dash at its end: created-500.
	Name string
	// Answers says in a line what Klarna does.
	Answers string
}

// Cases are all behaviours that the package comment lists: of those that take a number, or come before others, one that ends
// in an order that is made. [CheckCase] takes every other combination, too.
func Cases() []Case {
	var list []Case
	for _, b := range endings() {
		list = append(list, Case{strings.TrimSuffix(b.text, "-"), b.says})
	}
	for _, f := range faultWords() {
		one := Case{f.text + "x1", f.says + ", to the first try"}
		if f.answer.shape == overtaken {
			one = Case{f.text, f.says}
		}
		list = append(list, one)
	}
	return append(list,
		Case{"503x2", "503 with Klarna's error object, to the first two tries"},
		Case{"502x1-html", "502 with a page of HTML, to the first try"},
		Case{"504x1-bare", "504 without a body, to the first try"},
		Case{"500-TIMEOUT", "500 with the error code TIMEOUT, always"},
		Case{"429x1", "429, to the first try"},
		Case{"401x1", "401, to the first try"},
		Case{"308x1", "308 to another host, to the first try"},
		Case{"403x1-numbered", "403 with a firewall's JSON, to the first try"},
		Case{"403-uncoded", "403 with fraud_status REJECTED and no error code"},
		Case{"403-NEVER_HEARD_OF", "403 with an error code that nobody knows"},
		Case{"created-500", "the order is made, and answered 500"},
		Case{"created-cut", "the order is made, and the connection cut"},
		Case{"late-2000", "the connection is cut; the order is made 2 s later, a try before that is declined"},
		Case{"late-2000-504", "504; the order is made 2 s later, a try before that is declined"},
		Case{"slow-3000", "accepted after 3 s"},
		Case{"gzip", "accepted, in gzip that nobody asked for"},
		Case{"br", "accepted, in what is said to be br and cannot be read"},
		Case{"long-id-70000", "accepted, with an order id of 70,000 characters"},
		Case{"conflict-in-flight", "accepted; a second request while the first is at work is answered 409"},
	)
}

// CheckCase says what is wrong with a name that is no behaviour, nor several joined by dashes.
func CheckCase(name string) error {
	switch _, rest := read(name + "-"); rest {
	case "":
		return nil
	case name + "-":
		return fmt.Errorf("%q is no behaviour of the simulator", name)
	default:
		return fmt.Errorf("%q is no behaviour of the simulator from %q on", name, strings.TrimSuffix(rest, "-"))
	}
}

// CheckOutage says what is wrong with a text for Options.Outage.
func CheckOutage(text string) error {
	if b, rest := read(text + "-"); text != "" && (rest != "" || len(b.faults) == 0 && b.slow == 0) {
		return fmt.Errorf("%q, expected the beginning of a token that fails, like 503 or cut", text)
	}
	return nil
}
