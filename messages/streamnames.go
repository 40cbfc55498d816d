package messages

// Names of the streams. Other systems bind to them.
const (
	StreamJobs    = "RENEWALS"
	StreamJournal = "RENEWAL_JOURNAL"
	StreamDead    = "RENEWAL_DEAD"

	// StreamLater is where jobs wait that came before they were due: each a message schedule, which at its moment
	// becomes a job again. In RENEWALS they would hold a place of max_ack_pending each, and a full consumer hands out
	// nothing that is due. RENEWALS itself must never have schedules: with them whoever may publish one of its subjects
	// may empty the stream and write on all the others.
	// https://docs.nats.io/nats-concepts/jetstream/streams#configuration
	StreamLater = "RENEWALS_LATER"

	// How far the journal had come, twice: see package worker/journal. Each holds one message.
	StreamMarks     = "RENEWAL_MARKS"
	StreamMarksCopy = "RENEWAL_MARKS_COPY"
	SubjectMark     = "renewals.mark.journal"
	SubjectMarkCopy = "renewals.mark.copy"
	MarkSubjects    = "renewals.mark.*" // matches both
)
