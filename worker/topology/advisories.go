package topology

import (
	"github.com/klarna-renewals/renewals/messages"
)

// advisories are where the server tells of changes to what this worker binds. It tells of no consumer whose configuration
// was updated; for that there is the look once a minute, and hollow.
// https://docs.nats.io/running-a-nats-service/nats_admin/monitoring/monitoring_jetstream#advisories
func advisories() (subjects []string) {
	const prefix = "$JS.EVENT.ADVISORY."
	for _, s := range (Provisioning{}).streams() {
		subjects = append(subjects, prefix+"STREAM.UPDATED."+s.Name, prefix+"STREAM.DELETED."+s.Name, prefix+"STREAM.CREATED."+s.Name)
	}
	for _, what := range []string{"DELETED.", "CREATED.", "PAUSE."} {
		subjects = append(subjects, prefix+"CONSUMER."+what+messages.StreamJobs+".*", prefix+"CONSUMER."+what+messages.StreamLater+".*")
	}
	return subjects
}

// Advisories are the subjects that a worker follows.
var Advisories = advisories()

// AdvisoryFilters match them, for permissions, in a list so short that a user's JWT with it fits into the 4 KB that a
// server takes of a client's first line. What else they match are names as well, no messages.
var AdvisoryFilters = []string{
	"$JS.EVENT.ADVISORY.STREAM.CREATED.*", "$JS.EVENT.ADVISORY.STREAM.DELETED.*", "$JS.EVENT.ADVISORY.STREAM.UPDATED.*",
	"$JS.EVENT.ADVISORY.CONSUMER.CREATED.*.*", "$JS.EVENT.ADVISORY.CONSUMER.DELETED.*.*", "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.*.*",
}
