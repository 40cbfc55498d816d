package topology

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/test/broker"
)

// What we ask JetStream ourselves goes where the library's own questions go.
func TestAPI(t *testing.T) {
	t.Parallel()
	nc := broker.JetStream(t).Conn()
	plain, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	hub, err := jetstream.NewWithDomain(nc, "hub")
	if err != nil {
		t.Fatal(err)
	}
	imported, err := jetstream.NewWithAPIPrefix(nc, "from.prod")
	if err != nil {
		t.Fatal(err)
	}
	for want, js := range map[string]jetstream.JetStream{
		"$JS.API.STREAM.INFO.RENEWALS": plain, "$JS.hub.API.STREAM.INFO.RENEWALS": hub, "from.prod.STREAM.INFO.RENEWALS": imported,
	} {
		if got := API(js, "STREAM.INFO.RENEWALS"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
