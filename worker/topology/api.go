package topology

import (
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// API is the subject of a call to JetStream's API, such as STREAM.INFO.RENEWALS, under the prefix or in the domain that js was made for.
func API(js jetstream.JetStream, call string) string {
	prefix := jetstream.DefaultAPIPrefix
	switch o := js.Options(); {
	case o.APIPrefix != "":
		prefix = o.APIPrefix
	case o.Domain != "":
		prefix = "$JS." + o.Domain + ".API."
	}
	return strings.TrimSuffix(prefix, ".") + "." + call
}
