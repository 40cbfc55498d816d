package messages

import "embed"

//go:embed asyncapi.yaml schemas/*.json
var schemas embed.FS

// SchemaNames returns what [Schema] knows, in the order of reading: job, capture, each kind, break, token, asyncapi.
func SchemaNames() []string {
	names := []string{"job", "capture"}
	for _, kind := range Kinds() {
		names = append(names, string(kind))
	}
	return append(names, "break", "token", "asyncapi")
}

// Schema returns the JSON Schema (2020-12) of the job, of the capture job, of a kind of result, of a break or of what is known of a token, or as "asyncapi" the AsyncAPI 3 document,
// which refers to the others as schemas/<name>.json. Each schema stands alone.
func Schema(name string) ([]byte, bool) {
	file := "schemas/" + name + ".json"
	if name == "asyncapi" {
		file = "asyncapi.yaml"
	}
	b, err := schemas.ReadFile(file)
	return b, err == nil
}

// SchemaID is the $id of a JSON Schema that [Schema] knows; results carry that of their kind as ce-dataschema. It stays the
// same while fields and values are added, and is a name, not a place to fetch from: [Schema] has the text.
func SchemaID(name string) string {
	return "https://github.com/klarna-renewals/renewals/messages/schemas/" + name + ".json"
}
