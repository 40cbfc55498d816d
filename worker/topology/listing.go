package topology

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// A Listing holds consumers of jobs by their names, as the server told of all of them at once. One that is not in it may exist all the
// same: in a cluster the server leaves out those whose leader does not answer it. Nil is an empty one.
type Listing map[string]*jetstream.ConsumerInfo

// mostSingly is for how many accounts the consumers are asked for one by one. Beyond it a question for each would take longer than
// one for all, others' among them.
const mostSingly = 20

// List asks for the consumers of all accounts at once, a page of them after the other; for few accounts it asks nothing. An error
// says nothing about any of them: they are then to be asked for singly.
func List(ctx context.Context, js jetstream.JetStream, accounts int) (Listing, error) {
	if accounts <= mostSingly {
		return nil, nil
	}
	all := Listing{}
	for _, name := range []string{messages.StreamJobs, messages.StreamLater} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("bind stream %s: %w", name, err)
		}
		consumers := stream.ListConsumers(ctx)
		for info := range consumers.Info() {
			all[info.Name] = info
		}
		if err := consumers.Err(); err != nil {
			return nil, fmt.Errorf("list the consumers of %s: %w%s", name, err, Hint(err))
		}
	}
	return all, nil
}
