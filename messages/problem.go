package messages

// Problem is one thing that a person has to correct, or to know of.
type Problem struct {
	Path    string `json:"path"` // such as order.order_lines[3].total_tax_amount; $ is the whole document
	Message string `json:"message"`
	// Kind is of a warning; "" of an error.
	Kind WarningKind `json:"kind,omitempty"`
}

func (p Problem) String() string { return p.Path + ": " + p.Message }
